package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/cmd/settled/dashboard"
	"settled/consumer"
)

// boardLink is the dashboard with its own connection to NATS, while it runs. Where
// the connection is closed for good it makes a new one, and a new dashboard on it.
type boardLink struct {
	handler atomic.Pointer[http.ServeMux]
	stop    func()
}

// ServeHTTP answers with the dashboard of the moment.
func (b *boardLink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.handler.Load().ServeHTTP(w, r)
}

// boardStop bounds how long the dashboard's end is waited for. It only reads.
const boardStop = 2 * time.Second

// leastToken is how long a token is at least: a short one can be guessed.
const leastToken = 16

// openBoard makes the dashboard of the service and runs it.
func (s *service) openBoard() (*boardLink, error) {
	token, err := readToken(s.cfg.httpTokenFile)
	if err != nil {
		return nil, err
	}
	cfg := *s.cfg
	if s.nats.embedded != nil {
		cfg = *s.cfg.atEmbedded(s.nats.url)
	}
	open := func() (*natsLink, *dashboard.Board, error) { return s.boardOn(&cfg, token) }
	link, board, err := open()
	if err != nil {
		return nil, err
	}
	b := &boardLink{}
	b.use(board)
	stop := beside(context.Background(), func(ctx context.Context) { b.run(ctx, link, board, open, s.log) })
	b.stop = func() {
		if !within(boardStop, stop) {
			s.log.Warn().Msg("the dashboard did not end in time: its connection ends with the process")
		}
	}
	return b, nil
}

// boardOn makes the dashboard on a new connection.
func (s *service) boardOn(cfg *config, token string) (*natsLink, *dashboard.Board, error) {
	origin, err := publicOrigin(cfg.httpOrigin)
	if err != nil {
		return nil, nil, err
	}
	link, err := cfg.connect("settled dashboard", true, natsNotices(s.log.With().Str("connection", "dashboard").Logger(), func(*nats.Conn) {}, func(*nats.Subscription, error) {})...)
	if err != nil {
		return nil, nil, err
	}
	letters := consumer.NewDeadLetters(link.js, cfg.consumerConfig(nil))
	letters.Who = "dashboard of " + letters.Who
	return link, dashboard.New(dashboard.Config{
		JS: link.js, Prefix: cfg.natsPrefix, Letters: letters, StatusFunc: s.status, Token: token, ForeignFunc: s.foreignEntry,
		Loopback: loopback(cfg.httpListen), Origin: origin, Version: buildInfo().Version, Log: s.log,
	}), nil
}

func (b *boardLink) use(board *dashboard.Board) {
	mux := http.NewServeMux()
	board.Mount(mux)
	b.handler.Store(mux)
}

// run runs the dashboard until ctx ends, and the next one where its connection closes.
func (b *boardLink) run(ctx context.Context, link *natsLink, board *dashboard.Board, open func() (*natsLink, *dashboard.Board, error), log zerolog.Logger) {
	for {
		stop := beside(ctx, board.Run)
		err := link.untilClosed(ctx)
		stop()
		link.close()
		if err == nil {
			return
		}
		log.Error().Err(err).Msg("the dashboard starts again on a new connection to NATS")
		for link = nil; link == nil; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(againAfter):
			}
			if link, board, err = open(); err != nil {
				log.Error().Err(err).Msg("the dashboard can't be opened again")
			}
		}
		b.use(board)
	}
}

// publicOrigin is http.origin as browsers send it in the header Origin: without its path,
// in lower case, and without the scheme's own port. Empty where it is not set.
func publicOrigin(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) || !validPort(u.Port()) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("http.origin: want http:// or https:// and a host, with or without a path, such as https://ops.example/settled")
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	host = strings.TrimSuffix(strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[scheme]), ":")
	return scheme + "://" + host, nil
}

// readToken reads http.token_file; the empty path is no token.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := clearnode.ReadSecretFile("token", path)
	if err != nil {
		return "", fmt.Errorf("http.token_file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < leastToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("http.token_file: %s: want one word of at least %d characters; openssl rand -hex 32 makes one", path, leastToken)
	}
	return token, nil
}

// loopback reports whether only this machine reaches what listens there.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// status is what the dashboard shows of this process.
func (s *service) status() dashboard.Status {
	st := dashboard.Status{
		NATS:    dashboard.NATSStatus{Connected: s.nats.IsConnected(), Server: s.nats.ConnectedUrlRedacted()},
		Node:    dashboard.NodeStatus{URL: withoutPassword(s.cfg.nodeURL), Connections: s.node.Connected(), Configured: s.cfg.nodeConnections},
		Waiting: s.metrics.waiting.list(),
	}
	if address, known := s.node.Address(); known {
		st.Node.Address = address.String()
	}
	if err := s.node.Ready(); err != nil {
		st.Node.Problem = err.Error()
	}
	if err := s.ready(); err != nil {
		st.Problem = err.Error()
	}
	s.mu.Lock()
	c := s.consumer
	s.mu.Unlock()
	if c != nil {
		is := c.Status()
		st.Intake = dashboard.IntakeStatus{
			State: string(is.State), Why: is.Why, Paused: is.Paused, PausedWhy: is.PausedWhy,
			InHand: is.InHand, Pending: is.Pending, Unanswered: is.Unanswered,
		}
	}
	return st
}

// list are the reasons that outcomes wait for, the longest wait first.
func (w *waiting) list() []dashboard.Wait {
	count, oldest := w.ages(time.Now())
	waits := []dashboard.Wait{}
	for reason, n := range count {
		waits = append(waits, dashboard.Wait{Reason: reason, Count: n, OldestSeconds: int64(oldest[reason] / time.Second)})
	}
	slices.SortFunc(waits, func(a, b dashboard.Wait) int {
		return cmp.Or(cmp.Compare(b.OldestSeconds, a.OldestSeconds), cmp.Compare(a.Reason, b.Reason))
	})
	return waits
}

// listenHTTP serves what a service answers, and the dashboard.
func (s *service) listenHTTP() (*httpServer, error) {
	board, err := s.openBoard()
	if err != nil {
		return nil, err
	}
	mux := routes(s.alive, s.ready, s.stopped, s.metrics.registry)
	mux.Handle("/", board)
	h, err := listenHTTP(s.cfg.httpListen, mux, s.log)
	if err != nil {
		board.stop()
		return nil, err
	}
	h.board = board
	if !loopback(s.cfg.httpListen) {
		s.log.Warn().Str("addr", h.addr).Msg("whoever reaches http.listen can read the dashboard: let only those reach it who may")
	}
	return h, nil
}
