package clearnode

import (
	"errors"
	"fmt"

	"settled/settlement"
)

// legacySessionsOf are the params of get_app_sessions.
type legacySessionsOf struct {
	Participant string `json:"participant"`
	Status      string `json:"status"`
}

func (r *legacyReading) askSessions(participant, status string, into *legacySight) question {
	return question{"get_app_sessions", legacySessionsOf{participant, status}, func(a answer) error {
		into.listing, into.list = a, nil
		if err := a.into("get_app_sessions", &into.list); err != nil {
			return err
		}
		if into.list == nil {
			return errors.New("no list in the answer")
		}
		return nil
	}}
}

// askDefinition keeps what it reads, and the answer too, where one is wanted.
func (r *legacyReading) askDefinition(into *definition, whole *answer) question {
	return question{"get_app_definition", definitionOf{r.id}, func(a answer) (err error) {
		if text, failed := a.failed(); failed && text == legacyAbsentText {
			return errAbsent
		}
		if *into, err = readLegacyDefinition(a); err == nil && whole != nil {
			*whole = a
		}
		return err
	}}
}

// askAssets reads what the node lists, which is nothing where it knows no chain.
func (r *legacyReading) askAssets(into *map[settlement.Asset]int32) question {
	return question{"get_assets", nil, func(a answer) error {
		var rows []assetRow
		if err := a.into("get_assets", &rows); err != nil {
			return err
		}
		if rows == nil {
			return errors.New("no list in the answer")
		}
		decimals, err := decimalsOf(rows)
		*into = decimals
		return err
	}}
}

// readLegacyDefinition reads the answer to get_app_definition. Weights and quorum
// are of 64 bits without a sign on the wire, and with one where the node reckons.
// The protocol's name is whatever the session's maker wrote, and means nothing.
func readLegacyDefinition(a answer) (definition, error) {
	var p struct {
		Protocol     string   `json:"protocol"`
		Participants []string `json:"participants"`
		Weights      []uint64 `json:"weights"`
		Quorum       uint64   `json:"quorum"`
	}
	if err := a.into("get_app_definition", &p); err != nil {
		return definition{}, err
	}
	if p.Participants != nil && len(p.Participants) == 0 {
		return definition{}, errNoParticipants
	}
	if len(p.Participants) == 0 || len(p.Participants) != len(p.Weights) {
		return definition{}, fmt.Errorf("%d participants and %d weights", len(p.Participants), len(p.Weights))
	}
	d := definition{protocol: p.Protocol, quorum: int64(p.Quorum)} // #nosec G115 -- as the node does
	for i, spelling := range p.Participants {
		address, err := settlement.ParseAddress(spelling)
		if err != nil {
			return definition{}, settlement.Fail(settlement.AllocationRejected, "participant %d of the session can't be paid: %s", i+1, err)
		}
		weight := int64(p.Weights[i]) // #nosec G115 -- as the node does
		d.participants = append(d.participants, settlement.Participant{Address: address, Spelling: spelling, Weight: weight})
	}
	return d, nil
}
