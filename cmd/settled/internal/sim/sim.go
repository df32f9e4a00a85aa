package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// Options configure a simulated node.
type Options struct {
	Node      clearnodetest.Config // its Now is the clock that the node begins with; nil: time.Now
	StateFile string               // empty: the state ends with the process
	Faults    string               // as for --fault
	Seed      uint64               // of the faults
}

// Sim is a running node.
type Sim struct {
	Node     *clearnodetest.Node
	Protocol string
	Assets   []clearnodetest.Asset

	ahead atomic.Int64     // of the clock, in nanoseconds
	now   func() time.Time // the clock
	file  *stateFile       // nil: none

	mu     sync.Mutex // of what follows, and of all changes by the control API
	nonce  uint64     // of the last session
	faults string
	seed   uint64
	saved  uint64 // Finished when the state was last written
}

// Start starts a node with the state in its file.
func Start(o Options) (*Sim, error) {
	cfg := o.Node.WithDefaults()
	cfg.Protocol = cmp.Or(cfg.Protocol, clearnodetest.Nitro04)
	s := &Sim{Protocol: cfg.Protocol, Assets: cfg.Assets}
	realTime := cfg.Now
	s.now = func() time.Time { return realTime().Add(time.Duration(s.ahead.Load())) }
	cfg.Now = s.now
	s.nonce = uint64(realTime().UnixMicro()) // #nosec G115 -- not negative; above every nonce of an earlier process
	var state []byte
	if o.StateFile != "" {
		var ahead time.Duration
		var err error
		if s.file, ahead, state, err = openStateFile(o.StateFile, s.Protocol); err != nil {
			return nil, fmt.Errorf("--state: %w", err)
		}
		s.ahead.Store(int64(ahead))
	}
	node, err := clearnodetest.StartFrom(cfg, state)
	if err == nil {
		s.Node = node
		if err = s.setFaults(o.Faults, o.Seed); err != nil {
			err = errors.Join(terminal.UsageError(fmt.Errorf("--fault: %w", err)), node.Close())
		}
	}
	if err != nil && s.file != nil {
		_ = s.file.lock.Close()
	}
	return s, err
}

// saveInterval is the time after which a request's changes are in the state file. What the
// control API changes is in it at once.
const saveInterval = time.Second

// Run keeps the state file up to date until ctx ends, and then ends the node.
func (s *Sim) Run(ctx context.Context) error {
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.Close()
		case <-tick.C:
			if s.Node.Finished() == s.lastSaved() {
				continue
			}
			if err := s.locked(s.save); err != nil {
				return errors.Join(err, s.Close())
			}
		}
	}
}

// Close ends the node and stores its last state.
func (s *Sim) Close() error {
	err := errors.Join(s.Node.Close(), s.locked(s.save))
	if s.file != nil {
		err = errors.Join(err, s.file.lock.Close())
	}
	return err
}

func (s *Sim) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

func (s *Sim) lastSaved() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

func (s *Sim) save() error {
	finished := s.Node.Finished() // before the state: a request that ends meanwhile is stored again
	if s.file == nil {
		s.saved = finished
		return nil
	}
	state, err := s.Node.State()
	if err == nil {
		err = s.file.write(s.Protocol, time.Duration(s.ahead.Load()), state)
	}
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	s.saved = finished
	return nil
}

func (s *Sim) setFaults(list string, seed uint64) error {
	faults, err := parseFaults(list, seed, s.Protocol, s.Node.Methods())
	if err != nil {
		return err
	}
	s.Node.ClearFaults()
	for _, f := range faults {
		s.Node.Inject(f)
	}
	s.faults, s.seed = list, seed
	return nil
}

// Opening says which sessions to open. The last participant is the judge.
type Opening struct {
	Count        int                        `json:"count,omitempty"`       // 0: 1
	Application  string                     `json:"application,omitempty"` // empty: sim
	Participants []string                   `json:"participants"`
	Weights      []int64                    `json:"weights,omitempty"`  // none: 100 for the judge, 0 for the others
	Quorum       uint64                     `json:"quorum,omitempty"`   // 0: 100
	Deposits     []clearnodetest.Allocation `json:"deposits,omitempty"` // none: 10 usdc of the first participant
}

const maxOpening = 10_000

// complete checks what the node doesn't, and fills in the defaults.
func (o *Opening) complete(s *Sim) error {
	if o.Count == 0 {
		o.Count = 1
	}
	if o.Count < 1 || o.Count > maxOpening {
		return fmt.Errorf("count %d: want 1 to %d", o.Count, maxOpening)
	}
	if len(o.Participants) < 2 {
		return errors.New("participants: want two or more, the judge last")
	}
	for i, text := range o.Participants {
		a, err := settlement.ParseChecksummed(text)
		if err != nil {
			return fmt.Errorf("participants: %w", err)
		}
		o.Participants[i] = a.String()
	}
	if o.Application == "" {
		o.Application = "sim"
	}
	if o.Weights == nil {
		o.Weights = make([]int64, len(o.Participants))
		o.Weights[len(o.Weights)-1] = 100
	}
	if o.Quorum == 0 {
		o.Quorum = 100
	}
	if o.Deposits == nil {
		o.Deposits = []clearnodetest.Allocation{{Participant: o.Participants[0], Asset: s.Assets[0].Symbol, Amount: decimal.NewFromInt(10)}}
	}
	return o.checkDeposits(s)
}

func (o *Opening) checkDeposits(s *Sim) error {
	var symbols []string
	for _, a := range s.Assets {
		symbols = append(symbols, a.Symbol)
	}
	for i, d := range o.Deposits {
		at := slices.Index(symbols, d.Asset)
		holder, err := settlement.ParseChecksummed(d.Participant)
		o.Deposits[i].Participant = holder.String()
		switch {
		case err != nil:
			return fmt.Errorf("deposits: %w", err)
		case !slices.Contains(o.Participants, holder.String()):
			return fmt.Errorf("deposits: %s is not a participant", d.Participant)
		case at < 0:
			return fmt.Errorf("deposits: unknown asset %q: the node has %s", d.Asset, strings.Join(symbols, " and "))
		case d.Amount.Exponent() > 30 || !d.Amount.IsPositive() || -int(d.Amount.Exponent()) > s.Assets[at].Decimals || d.Amount.GreaterThan(decimal.New(1, 30)):
			return fmt.Errorf("deposits: an amount of %s: want more than 0 and at most 1e30, with at most %d decimals", d.Asset, s.Assets[at].Decimals)
		case s.Protocol == clearnodetest.Legacy && d.Asset != o.Deposits[0].Asset:
			return errors.New("deposits: a close at a legacy node pays one asset: deposit one")
		}
	}
	return nil
}

// Open opens sessions whose deposits come from outside the node.
func (s *Sim) Open(o Opening) ([]SessionAnswer, error) {
	if err := o.complete(s); err != nil {
		return nil, err
	}
	protocol := "NitroRPC/0.4"
	if s.Protocol == clearnodetest.Legacy || s.Protocol == clearnodetest.Nitro02 {
		protocol = "NitroRPC/0.2"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	opened := []SessionAnswer{}
	for range o.Count {
		for _, d := range o.Deposits {
			s.Node.Fund(common.HexToAddress(d.Participant), d.Asset, d.Amount)
		}
		s.nonce++
		id, err := s.Node.OpenSession(clearnodetest.Definition{
			Application: o.Application, Protocol: protocol, Participants: o.Participants, Weights: o.Weights, Quorum: o.Quorum, Challenge: 86400, Nonce: s.nonce,
		}, o.Deposits)
		if err != nil {
			return opened, errors.Join(fmt.Errorf("%d of %d opened: %w", len(opened), o.Count, err), s.save())
		}
		detail, _ := s.Node.SessionDetail(id)
		opened = append(opened, s.answerOf(detail))
	}
	return opened, s.save()
}
