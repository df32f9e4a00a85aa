package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
)

// statusError is an error with its HTTP status; others have 400.
type statusError struct {
	status int
	text   string
}

func (e statusError) Error() string { return e.text }

// NodeInfo answers GET /.
type NodeInfo struct {
	URL      string `json:"url"`
	Address  string `json:"address"` // that signs its answers
	Protocol string `json:"protocol"`
}

// SessionLine is a session in the answer to GET /sessions.
type SessionLine struct {
	ID      string `json:"session_id"`
	Status  string `json:"status"`
	Version uint64 `json:"version"`
}

// SessionLines answers GET /sessions.
type SessionLines struct {
	Sessions []SessionLine `json:"sessions"`
}

// CheckAnswer answers GET /check: whether the node's books are right.
type CheckAnswer struct {
	OK         bool     `json:"ok"`
	Violations []string `json:"violations"`
}

// ErrorAnswer answers a request that failed.
type ErrorAnswer struct {
	Error string `json:"error"` // what is wrong
}

// SessionAnswer is a session with everything that happened in it.
type SessionAnswer struct {
	SessionLine
	Definition   clearnodetest.Definition   `json:"definition"`
	Data         string                     `json:"session_data"`
	Created      time.Time                  `json:"created_at"`
	Updated      time.Time                  `json:"updated_at"`
	Deposits     []clearnodetest.Allocation `json:"deposits"`
	Current      []clearnodetest.Allocation `json:"current"`
	Payouts      []clearnodetest.Allocation `json:"payouts"`
	Signers      [][]string                 `json:"signers"`      // of each close that was executed
	Transactions []clearnodetest.EntryRow   `json:"transactions"` // entries of the session's account, oldest first
	Requests     []updateLine               `json:"requests"`     // to close it; of a nitronode, all its updates
}

// updateLine is a request to change a session.
type updateLine struct {
	Received  time.Time `json:"received_at"`
	Timestamp uint64    `json:"timestamp"` // the request's own, in milliseconds
	Intent    string    `json:"intent"`
	Answer    string    `json:"answer"`   // "closed", "operated", "withdrawn", or the error; empty: none yet
	Executed  bool      `json:"executed"` // whatever was answered
}

// SessionList answers POST /sessions.
type SessionList struct {
	Sessions []SessionAnswer `json:"sessions"`
}

// FaultSetting answers GET /faults, and is the request of PUT /faults.
type FaultSetting struct {
	Faults string  `json:"faults"`
	Seed   *uint64 `json:"seed,omitempty"`
}

// ClockAnswer answers GET and POST /clock.
type ClockAnswer struct {
	Now   time.Time `json:"now"`
	Ahead string    `json:"ahead"` // of real time
}

// ServeControl serves the HTTP API at a loopback address until stop is called.
func (s *Sim) ServeControl(listen string) (address string, stop func(), err error) {
	if !natsconn.IsLoopback(listen) {
		return "", nil, terminal.UsageError(fmt.Errorf("--control %q: want a loopback address and a port, as in 127.0.0.1:8001: whoever reaches it controls the node", listen))
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", nil, fmt.Errorf("--control: %w", err)
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), func() { _ = server.Close() }, nil
}

// handler is the table of routes. deploy/SIM.md documents it.
func (s *Sim) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /{$}":           s.getNode,
		"GET /sessions":      s.getSessions,
		"POST /sessions":     s.postSessions,
		"GET /sessions/{id}": s.getSession,
		"GET /faults":        s.getFaults,
		"PUT /faults":        s.putFaults,
		"DELETE /faults":     s.deleteFaults,
		"GET /clock":         s.getClock,
		"POST /clock":        s.postClock,
		"GET /check":         s.getCheck,
		"POST /reset":        s.postReset,
		"/": func(r *http.Request) (any, error) {
			return nil, statusError{http.StatusNotFound, "there is no " + r.Method + " " + r.URL.Path + ": deploy/SIM.md lists the routes"}
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var v any
			err := guard(r)
			if err == nil {
				v, err = answer(r)
			}
			writeAnswer(w, v, err)
		})
	}
	return mux
}

var crossOrigin = http.NewCrossOriginProtection()

// guard rejects what a web page could make a browser send: unknown Host headers (DNS
// rebinding), and changes from another origin.
func guard(r *http.Request) error {
	host := r.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	}
	if !natsconn.IsLoopback(host) {
		return statusError{http.StatusMisdirectedRequest, fmt.Sprintf("unknown Host header %.100q: use 127.0.0.1 or localhost", r.Host)}
	}
	if err := crossOrigin.Check(r); err != nil {
		return statusError{http.StatusForbidden, err.Error()}
	}
	return nil
}

func writeAnswer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := http.StatusBadRequest
		if e := (statusError{}); errors.As(err, &e) {
			status = e.status
		}
		w.WriteHeader(status)
		v = ErrorAnswer{err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// readBody reads a JSON object of which all members are known.
func readBody(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("the body must be a JSON object of this route: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body must be one JSON object")
	}
	return nil
}

func (s *Sim) getNode(*http.Request) (any, error) {
	return NodeInfo{s.Node.URL(), s.Node.Address().Hex(), s.Protocol}, nil
}

func (s *Sim) getSessions(r *http.Request) (any, error) {
	status := r.URL.Query().Get("status")
	if status != "" && status != "open" && status != "closed" {
		return nil, fmt.Errorf("status %q: want open or closed", status)
	}
	list := []SessionLine{}
	for _, id := range s.Node.SessionIDs() {
		if state, ok := s.Node.Session(id); ok && (status == "" || state.Status == status) {
			list = append(list, SessionLine{id, state.Status, state.Version})
		}
	}
	return SessionLines{list}, nil
}

func (s *Sim) postSessions(r *http.Request) (any, error) {
	var o Opening
	if err := readBody(r, &o); err != nil {
		return nil, err
	}
	opened, err := s.Open(o)
	return SessionList{opened}, err
}

func (s *Sim) getSession(r *http.Request) (any, error) {
	id := strings.ToLower(r.PathValue("id"))
	d, ok := s.Node.SessionDetail(id)
	if !ok {
		return nil, statusError{http.StatusNotFound, "the node has no session " + id}
	}
	return s.answerOf(d), nil
}

func (s *Sim) answerOf(d clearnodetest.SessionDetail) SessionAnswer {
	a := SessionAnswer{
		SessionLine: SessionLine{d.ID, d.Status, d.Version}, Definition: d.Definition, Data: d.Data, Created: d.Created, Updated: d.Updated,
		Deposits: append([]clearnodetest.Allocation{}, d.Deposits...), Current: append([]clearnodetest.Allocation{}, d.Current...),
		Payouts: append([]clearnodetest.Allocation{}, d.Payouts...), Signers: append([][]string{}, d.Signers...), Transactions: d.Entries, Requests: []updateLine{},
	}
	if s.Protocol == clearnodetest.NitronodeV1 {
		for _, u := range s.Node.Submissions(d.ID) {
			a.Requests = append(a.Requests, updateLine{u.Received, u.Timestamp, u.Intent.String(), u.Answer, u.Committed})
		}
		return a
	}
	for _, c := range s.Node.Closes(d.ID) {
		a.Requests = append(a.Requests, updateLine{c.Received, c.Timestamp, "close", c.Answer, c.Committed})
	}
	return a
}

func (s *Sim) getFaults(*http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return FaultSetting{s.faults, &s.seed}, nil
}

func (s *Sim) putFaults(r *http.Request) (any, error) {
	var f FaultSetting
	if err := readBody(r, &f); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Seed == nil {
		f.Seed = &s.seed
	}
	seed := *f.Seed
	return FaultSetting{f.Faults, &seed}, s.setFaults(f.Faults, seed)
}

func (s *Sim) deleteFaults(*http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seed := s.seed
	return FaultSetting{"", &seed}, s.setFaults("", seed)
}

func (s *Sim) getClock(*http.Request) (any, error) {
	ahead := time.Duration(s.ahead.Load())
	return ClockAnswer{s.now(), ahead.String()}, nil
}

const farthestClock = 10 * 365 * 24 * time.Hour

func (s *Sim) postClock(r *http.Request) (any, error) {
	var body struct {
		Advance string `json:"advance"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	by, err := time.ParseDuration(body.Advance)
	if err != nil || by < 0 || by > farthestClock {
		return nil, fmt.Errorf("advance %q: want a duration of 0 or more, as in 90s: the clock goes forward only", body.Advance)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead.Load()+int64(by) > int64(farthestClock) {
		return nil, fmt.Errorf("advance %q: the clock may be at most %s ahead", body.Advance, farthestClock)
	}
	ahead := time.Duration(s.ahead.Add(int64(by)))
	return ClockAnswer{s.now(), ahead.String()}, s.save()
}

// getCheck reports what Check finds in the node's books.
func (s *Sim) getCheck(*http.Request) (any, error) {
	found := []string{}
	if err := s.Node.Check(); err != nil {
		found = strings.Split(err.Error(), "\n")
	}
	return CheckAnswer{len(found) == 0, found}, nil
}

// postReset makes the node as after its first start.
func (s *Sim) postReset(r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Node.Stop()
	s.ahead.Store(0)
	if err := s.Node.Restore(nil); err != nil {
		return nil, statusError{http.StatusInternalServerError, err.Error()}
	}
	s.faults = ""
	info, _ := s.getNode(r)
	return info, s.save()
}
