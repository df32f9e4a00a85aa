package service

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/telemetry"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// The bounds of the requests that the micro service answers.
const (
	maxMicroPending  = 64        // requests that wait for one endpoint; further ones are not answered
	maxMicroRate     = 50        // requests a second to one endpoint
	maxPlanRate      = 5         // to the endpoint that reads the node, which may limit its rate
	maxMicroRequest  = 256 << 10 // bytes
	microTimeout     = 10 * time.Second
	maxMicroSearched = 20_000 // messages of OUTCOMES that are searched for an id
)

// microService is the replica as a NATS micro service, for `nats micro` and for programs. It
// has a connection of its own and only reads, at a bounded rate: it can't delay settling.
//
// NATS does not check the reply subject of a request. Through it, a client in settled's
// account could make this connection publish anywhere that settled may. Requests of other
// accounts have reply subjects that the server made. So the endpoints answer nothing to a
// subject that is neither one of those nor an inbox. The library answers requests under $SRV
// to any subject. Such an answer is no entry, record or outcome: in a stream it is reported as
// a foreign message, or becomes a dead letter. With the accounts of deploy/nats no other user
// is in settled's account.
type microService struct {
	s      *Service
	reader *status.Reader
}

// runMicro serves until ctx ends, on a new connection whenever one is closed for good.
func (s *Service) runMicro(ctx context.Context) {
	cfg := s.Cfg
	if s.NATS.Embedded != nil {
		cfg = natsconn.ForEmbedded(s.Cfg, s.NATS.URL)
	}
	for ctx.Err() == nil {
		if err := s.serveMicro(ctx, cfg); err != nil {
			s.Log.Warn().Err(err).Msg("the replica can't be asked over NATS (nats micro, settled status)")
		}
		if !background.Sleep(ctx, host.RestartDelay) {
			return
		}
	}
}

func (s *Service) serveMicro(ctx context.Context, cfg *config.Config) error {
	log := s.Log.With().Str("connection", "micro").Logger()
	link, err := natsconn.Connect(cfg, "settled micro", true, natsconn.Notices(log, func(*nats.Conn) {}, func(*nats.Subscription, error) {})...)
	if err != nil {
		return err
	}
	defer link.Shutdown()
	m := &microService{s: s, reader: &status.Reader{JS: link.JS, Consumer: cfg.Consumer(), Policies: cfg.Policies, WaitingFunc: func(sequence uint64) (status.Progress, bool) {
		return s.Metrics.Waiting.Of(sequence, time.Now())
	}}}
	service, err := micro.AddService(link.Conn, micro.Config{Name: "settled", Version: semanticVersion(telemetry.Build().Version), Description: "settles app sessions at a ClearNode", Metadata: s.microMetadata()})
	if err != nil {
		return err
	}
	defer func() { _ = service.Stop() }()
	for _, e := range []struct {
		subject string
		rate    rate.Limit
		answer  answerFunc
		options []micro.EndpointOpt
	}{
		{status.StatusSubject, maxMicroRate, m.status, nil},
		{status.PlanSubject, maxPlanRate, m.plan, nil},
		{status.WaitingSubject, maxMicroRate, m.waiting, []micro.EndpointOpt{micro.WithEndpointQueueGroupDisabled()}},
	} {
		options := append(e.options, micro.WithEndpointSubject(cfg.NATSPrefix+e.subject), micro.WithEndpointPendingLimits(maxMicroPending, maxMicroPending*maxMicroRequest))
		if err := service.AddEndpoint(strings.TrimPrefix(e.subject, "settled."), m.handle(ctx, e.rate, e.answer), options...); err != nil {
			return err
		}
	}
	return link.WaitClosed(ctx)
}

var semantic = regexp.MustCompile(`^v?(\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?)$`)

// semanticVersion returns a version in the form that the library accepts.
func semanticVersion(version string) string {
	if parts := semantic.FindStringSubmatch(version); parts != nil {
		return parts[1]
	}
	return "0.0.0"
}

// microMetadata is what `nats micro info` shows of the replica.
func (s *Service) microMetadata() map[string]string {
	build := telemetry.Build()
	name, _ := os.Hostname()
	all := map[string]string{
		"host": name, "pid": strconv.Itoa(os.Getpid()), "build": build.Version, "prefix": s.Cfg.NATSPrefix, "node": config.RedactURL(s.Cfg.NodeURL), "protocol": s.Cfg.NodeProtocol,
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	for scenario, policy := range s.Cfg.Policies {
		all["policy."+string(scenario)] = policy.Ref().Digest
	}
	return all
}

// answerFunc answers a request.
type answerFunc func(ctx context.Context, request []byte) (any, error)

// errSilent means that a request is not answered.
var errSilent = errors.New("no answer")

// handle answers the requests of an endpoint, one after the other: the library reads a request
// after its handler has returned.
func (m *microService) handle(ctx context.Context, perSecond rate.Limit, answer answerFunc) micro.Handler {
	limit := rate.NewLimiter(perSecond, int(perSecond))
	return micro.HandlerFunc(func(r micro.Request) {
		switch {
		case !isInbox(r.Reply()):
		case !limit.Allow():
			_ = r.Error("429", "too many requests: ask again in a second", nil)
		default:
			m.respond(ctx, r, answer)
		}
	})
}

func (m *microService) respond(ctx context.Context, r micro.Request, answer answerFunc) {
	ctx, cancel := context.WithTimeout(ctx, microTimeout)
	defer cancel()
	var value any
	err := error(settlement.Fail(settlement.InvalidOutcome, "the request has %d bytes, want at most %d", len(r.Data()), maxMicroRequest))
	if len(r.Data()) <= maxMicroRequest {
		value, err = answer(ctx, r.Data())
	}
	var failure *settlement.Failure
	switch {
	case err == nil:
		err = r.RespondJSON(value)
	case errors.Is(err, errSilent):
		return
	case errors.Is(err, status.ErrNotFound):
		err = r.Error("404", oneLine(err), nil)
	case errors.Is(err, status.ErrQuestion), errors.As(err, &failure):
		err = r.Error("400", oneLine(err), nil)
	default:
		err = r.Error("503", oneLine(err), nil)
	}
	if err != nil {
		m.s.Log.Debug().Err(err).Msg("a request over NATS was not answered")
	}
}

// oneLine is an error as the value of a header.
func oneLine(err error) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, err.Error())
}

// isInbox reports whether a reply subject is an inbox, or one that a server made for a request
// from another account.
func isInbox(reply string) bool {
	first, _, found := strings.Cut(reply, ".")
	return found && (first == "_INBOX" || strings.HasPrefix(first, "_INBOX_") || first == "_R_")
}

func readQuestion(data []byte) (q status.Question, err error) {
	if err := json.Unmarshal(data, &q); err != nil {
		return q, status.ErrQuestion
	}
	return q, nil
}

func (m *microService) status(ctx context.Context, data []byte) (any, error) {
	q, err := readQuestion(data)
	if err != nil {
		return nil, err
	}
	return m.reader.Ask(ctx, q, maxMicroSearched)
}

// waiting answers if this replica knows why the outcome waits.
func (m *microService) waiting(_ context.Context, data []byte) (any, error) {
	q, err := readQuestion(data)
	if err != nil {
		return nil, err
	}
	p, known := m.reader.WaitingFunc(q.Sequence)
	if !known {
		return nil, errSilent
	}
	return p, nil
}

// plan tells what an outcome would lead to if it were published now. The request is a
// structured CloudEvent.
func (m *microService) plan(ctx context.Context, data []byte) (any, error) {
	o := m.s.opened.Load()
	var event struct{ Type string }
	_ = json.Unmarshal(data, &event) // parsing the outcome reports what is wrong with it
	header := nats.Header{"Content-Type": {"application/cloudevents+json"}}
	outcome, _ := settlement.ParseOutcome(cloudevent.Read(m.s.Cfg.NATSPrefix+event.Type, header, data, "", 0, m.s.Cfg.NATSPrefix)) // an invalid one fails
	settler := settlement.Settler{
		Node: m.s.Node, Ledger: o.ledger, Policies: m.s.Cfg.Policies, Limits: m.s.Cfg.Limits, MaxAttempts: m.s.Cfg.ConsumerMaxAttempts, FenceMargin: m.s.Cfg.NodeFenceMargin,
	}
	decision, err := settler.Preview(ctx, outcome)
	if err != nil {
		return nil, err
	}
	return status.NewForecast(outcome, decision), nil
}
