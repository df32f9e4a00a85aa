package service

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/telemetry"
	"settled/consumer/deadletter"
)

// dashboardServer serves the dashboard on its own connection to NATS. If that is closed for
// good, it makes a new connection and a new dashboard.
type dashboardServer struct {
	probes  dashboard.Probes
	handler atomic.Pointer[http.ServeMux]
	stop    func()
}

// ServeHTTP implements http.Handler with the current dashboard.
func (b *dashboardServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.handler.Load().ServeHTTP(w, r)
}

// dashboardStopTimeout bounds the wait for the dashboard to stop. It only reads.
const dashboardStopTimeout = 2 * time.Second

// minTokenLength is the least length of a token, since short ones can be guessed.
const minTokenLength = 16

// openDashboard creates and runs the dashboard.
func (s *Service) openDashboard() (*dashboardServer, error) {
	token, err := readToken(s.Cfg.HTTPTokenFile)
	if err != nil {
		return nil, err
	}
	cfg := *s.Cfg
	if s.NATS.Embedded != nil {
		cfg = *natsconn.ForEmbedded(s.Cfg, s.NATS.URL)
	}
	open := func() (*natsconn.Link, *dashboard.Board, error) { return s.newDashboard(&cfg, token) }
	link, board, err := open()
	if err != nil {
		return nil, err
	}
	b := &dashboardServer{probes: dashboard.Probes{Alive: s.alive, Ready: s.Ready, Stopped: s.Stopped, Registry: s.Metrics.Registry, Profiles: s.Cfg.HTTPProfiles}}
	b.use(board)
	stop := background.Run(context.Background(), func(ctx context.Context) { b.run(ctx, link, board, open, s.Log) })
	b.stop = func() {
		if !background.Within(dashboardStopTimeout, stop) {
			s.Log.Warn().Msg("the dashboard did not stop in time: its connection closes when the process exits")
		}
	}
	return b, nil
}

// newDashboard creates a dashboard on a new connection.
func (s *Service) newDashboard(cfg *config.Config, token string) (*natsconn.Link, *dashboard.Board, error) {
	origin, err := config.Origin(cfg.HTTPOrigin)
	if err != nil {
		return nil, nil, err
	}
	link, err := natsconn.Connect(cfg, "settled dashboard", true, natsconn.Notices(s.Log.With().Str("connection", "dashboard").Logger(), func(*nats.Conn) {}, func(*nats.Subscription, error) {})...)
	if err != nil {
		return nil, nil, err
	}
	letters := deadletter.New(link.JS, cfg.Consumer())
	letters.Who = "dashboard of " + letters.Who
	outcomes := &status.Reader{JS: link.JS, Consumer: cfg.Consumer(), Policies: cfg.Policies, WaitingFunc: func(sequence uint64) (status.Progress, bool) {
		return s.Metrics.Waiting.Of(sequence, time.Now())
	}}
	return link, dashboard.New(dashboard.Config{
		JS: link.JS, Prefix: cfg.NATSPrefix, DeadLetters: letters, Outcomes: outcomes, Status: s.Status, Token: token, ForeignFunc: s.foreignEntry, EntryFunc: newPolicyWatch(s).observe, Recent: &s.recent,
		Loopback: natsconn.IsLoopback(cfg.HTTPListen), Origin: origin, Version: telemetry.Build().Version, Log: s.Log,
	}), nil
}

func (b *dashboardServer) use(board *dashboard.Board) {
	b.handler.Store(dashboard.NewHandler(b.probes, board))
}

// run runs the dashboard until ctx ends, and a new one if its connection closes.
func (b *dashboardServer) run(ctx context.Context, link *natsconn.Link, board *dashboard.Board, open func() (*natsconn.Link, *dashboard.Board, error), log zerolog.Logger) {
	for {
		stop := background.Run(ctx, board.Run)
		err := link.WaitClosed(ctx)
		stop()
		link.Shutdown()
		if err == nil {
			return
		}
		log.Error().Err(err).Msg("the dashboard starts again on a new connection to NATS")
		for link = nil; link == nil; {
			if !background.Sleep(ctx, host.RestartDelay) {
				return
			}
			if link, board, err = open(); err != nil {
				log.Error().Err(err).Msg("the dashboard can't be opened again")
			}
		}
		b.use(board)
	}
}

// readToken reads http.token_file; without a path there is no token.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := clearnode.ReadSecretFile("token", path)
	if err != nil {
		return "", fmt.Errorf("http.token_file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minTokenLength || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("http.token_file: %s: want one word of at least %d characters; openssl rand -hex 32 makes one", path, minTokenLength)
	}
	return token, nil
}

// Status returns the state of this process for the dashboard.
func (s *Service) Status() dashboard.Status {
	st := dashboard.Status{
		NATS:    dashboard.NATSStatus{Connected: s.NATS.IsConnected(), Server: s.NATS.ConnectedUrlRedacted()},
		Node:    dashboard.NodeStatus{URL: config.RedactURL(s.Cfg.NodeURL), Connections: s.Node.Connected(), Configured: s.Node.WantedConnections()},
		Waiting: waitingReasons(s.Metrics.Waiting),
	}
	if address, known := s.Node.Address(); known {
		st.Node.Address = address.String()
	}
	if err := s.Node.Ready(); err != nil {
		st.Node.Problem = err.Error()
	}
	if err := s.Ready(); err != nil {
		st.Problem = err.Error()
	}
	if o := s.opened.Load(); o != nil {
		is := o.consumer.Status()
		st.Intake = dashboard.IntakeStatus{
			State: string(is.State), Why: is.Why, Paused: is.Paused, PausedWhy: is.PausedWhy,
			InHand: is.InHand, Pending: is.Pending, Unanswered: is.Unanswered,
		}
	}
	return st
}

// waitingReasons returns the reasons for which outcomes wait, the longest wait first.
func waitingReasons(w *telemetry.WaitingOutcomes) []dashboard.Wait {
	count, oldest := w.Ages(time.Now())
	waits := []dashboard.Wait{}
	for reason, n := range count {
		waits = append(waits, dashboard.Wait{Reason: reason, Count: n, OldestSeconds: int64(oldest[reason] / time.Second)})
	}
	slices.SortFunc(waits, func(a, b dashboard.Wait) int {
		return cmp.Or(cmp.Compare(b.OldestSeconds, a.OldestSeconds), cmp.Compare(a.Reason, b.Reason))
	})
	return waits
}

// ListenHTTP serves the health, the metrics and the dashboard, and the profiles if http.pprof
// is set.
func (s *Service) ListenHTTP() (*host.HTTPServer, error) {
	if err := checkProfiles(s.Cfg); err != nil {
		return nil, err
	}
	board, err := s.openDashboard()
	if err != nil {
		return nil, err
	}
	h, err := host.ListenHTTP(s.Cfg.HTTPListen, board, s.Log)
	if err != nil {
		board.stop()
		return nil, err
	}
	h.OnClose = board.stop
	if !natsconn.IsLoopback(s.Cfg.HTTPListen) {
		s.Log.Warn().Str("addr", h.Addr).Msg("everyone who reaches http.listen can read the dashboard: restrict who can reach it")
	}
	return h, nil
}
