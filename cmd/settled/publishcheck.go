package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/settlement"
)

// checkOutcome returns why an outcome would fail with this configuration, whatever its
// session holds; nil if that isn't known without the session. An outcome that needs a
// signature fails without one whatever else it says.
func checkOutcome(cfg *config.Config, o settlement.Outcome) *settlement.Failure {
	if trust := cfg.TrustFunc(); trust != nil {
		if f := trust(o); f != nil {
			return f
		}
	}
	return cfg.Policies.Check(o, cfg.Limits)
}

// publishPreview is what `settled publish --dry-run` prints.
type publishPreview struct {
	Subject   string          `json:"subject"`
	Event     json.RawMessage `json:"event"`
	Signature string          `json:"signature,omitempty"`
	Forecast  forecast        `json:"forecast"` // unknown if the node or the ledger can't be read
}

// publishDryRun prints the message of an outcome and, if the ledger and the node can be
// read, its result if it were published now. It returns an error if the outcome would fail.
func (p *program) publishDryRun(ctx context.Context, cfg *config.Config, msg *nats.Msg, o settlement.Outcome) error {
	result := publishPreview{Subject: msg.Subject, Event: msg.Data, Signature: msg.Header.Get(consumer.SignatureHeader)}
	result.Forecast = forecast{Session: o.Session, Scenario: o.Scenario, Allocations: []settlement.Allocation{}, Would: "unknown"}
	if f, err := forecastOutcome(ctx, cfg, o); err != nil {
		result.Forecast.Message = err.Error()
	} else {
		result.Forecast = f
	}
	text := fmt.Sprintf("Not published (--dry-run). The message would be, on %s:\n%s\n", msg.Subject, terminal.EscapeJSON(msg.Data))
	if result.Signature != "" {
		text += fmt.Sprintf("%s: %s\n", consumer.SignatureHeader, result.Signature)
	}
	if err := p.Print(result, text+"Forecast: "+result.Forecast.text()); err != nil {
		return err
	}
	if f := result.Forecast; f.Would == "fail" {
		return fmt.Errorf("the outcome would fail with %s: %s", f.Code, f.Message)
	}
	return nil
}

// forecastOutcome returns what would become of an outcome if it were published now.
func forecastOutcome(ctx context.Context, cfg *config.Config, o settlement.Outcome) (forecast, error) {
	nc, err := natsconn.Connect(natsconn.AsOperator(cfg), "settled publish", false)
	if err != nil {
		return forecast{}, err
	}
	defer nc.Shutdown()
	preview := newReplayPreview(ctx, cfg, nc)
	defer preview.close()
	return preview.forecast(ctx, o)
}
