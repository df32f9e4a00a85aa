package bench

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// Node is the helper "node": a simulated node.
type Node struct {
	*clearnodetest.Node `json:"-"`
	start               NodeStart
	opened              uint64
}

// NodeStart configures the node.
type NodeStart struct {
	Protocol              string
	DelayClose, DelayRead time.Duration
	Slow                  []string // the methods that DelayRead delays
	FrameRate             float64
}

// NodeStarted is where the node is, and who signs its answers.
type NodeStarted struct{ URL, Address string }

// Start starts the node.
func (n *Node) Start(a NodeStart, started *NodeStarted) (err error) {
	n.start = a
	n.Node, err = clearnodetest.Start(clearnodetest.Config{
		Protocol: a.Protocol, Faucet: decimal.NewFromInt(1_000_000_000), Work: a.DelayClose,
		RateLimit: a.FrameRate, RateBurst: int(2 * max(a.FrameRate, 0)),
	})
	if err != nil {
		return err
	}
	for _, method := range a.Slow {
		n.Inject(clearnodetest.Fault{Method: method, Kind: clearnodetest.Delay, Delay: a.DelayRead, Times: -1})
	}
	*started = NodeStarted{n.URL(), n.Address().Hex()}
	return nil
}

// NodeOpen is how many sessions to open, and the account that closes them.
type NodeOpen struct {
	Sessions int
	Judge    string
}

// Open opens sessions.
func (n *Node) Open(a NodeOpen, all *[]Session) error {
	*all = make([]Session, a.Sessions)
	for i := range *all {
		n.opened++
		var err error
		if (*all)[i], err = n.openSession(a.Judge, n.opened); err != nil {
			return err
		}
	}
	return nil
}

// openSession opens a session of two players of its own and the judge, who alone reaches
// the quorum. One player has funded it, and the other provides what it is for.
func (n *Node) openSession(judge string, number uint64) (s Session, err error) {
	const asset, text = "usdc", "10.000001"
	player := func(n uint64) string {
		return common.BytesToAddress(crypto.Keccak256(binary.BigEndian.AppendUint64([]byte("bench player"), n))).Hex()
	}
	funder, provider := player(2*number), player(2*number+1)
	protocol := "NitroRPC/0.4"
	if n.start.Protocol == clearnodetest.Nitro02 || n.start.Protocol == clearnodetest.Legacy {
		protocol = "NitroRPC/0.2"
	}
	id, err := n.OpenSession(clearnodetest.Definition{
		Application: "bench", Protocol: protocol, Participants: []string{funder, provider, judge}, Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: number,
	}, []clearnodetest.Allocation{{Participant: funder, Asset: asset, Amount: decimal.RequireFromString(text)}})
	if err != nil {
		return s, err
	}
	state, _ := n.Session(id)
	parties := map[string]string{"provider": provider}
	s = Session{ID: settlement.SessionID(id), Version: state.Version, Outcome: map[string]any{"session_id": id, "parties": parties}}
	if n.start.Protocol == clearnodetest.Legacy { // which shows neither
		parties["funder"] = funder
		s.Outcome["expect"] = map[string]any{"totals": []any{map[string]string{"asset": asset, "amount": text}}}
	}
	amount, err := settlement.ParseAmount(text)
	s.Pays = []settlement.Allocation{{Participant: funder, Asset: asset}, {Participant: provider, Asset: asset, Amount: amount}, {Participant: judge, Asset: asset}}
	return s, err
}

// NodeCounts is what the node has received and sent.
type NodeCounts struct {
	Requests      map[string]int // by method; "" counts all
	Frames, Bytes uint64         // to clients
}

// Counts counts the requests of some methods.
func (n *Node) Counts(methods []string, counts *NodeCounts) error {
	counts.Requests = map[string]int{}
	for _, m := range append(methods, "") {
		counts.Requests[m] = n.Requests(m)
	}
	counts.Frames, counts.Bytes = n.Sent()
	return nil
}

// NodePaid is what a session has paid.
type NodePaid struct {
	Status string
	Closes int
	Rows   []settlement.Allocation
}

// Paid returns what sessions have paid, and fails if the node's accounts don't add up.
func (n *Node) Paid(sessions []settlement.SessionID, all *[]NodePaid) error {
	for _, id := range sessions {
		s, _ := n.Session(string(id))
		p := NodePaid{Status: s.Status, Closes: s.Closes}
		for _, row := range s.Payouts {
			amount, err := settlement.ParseAmount(row.Amount.String())
			if err != nil {
				return err
			}
			p.Rows = append(p.Rows, settlement.Allocation{Participant: row.Participant, Asset: settlement.Asset(row.Asset), Amount: amount})
		}
		*all = append(*all, p)
	}
	return n.Check()
}

// NATS is the helper "nats": a server on loopback.
type NATS struct{ server *server.Server }

// NATSStart configures the server.
type NATSStart struct {
	Dir        string
	SyncAlways bool
}

// Start starts the server.
func (n *NATS) Start(a NATSStart, url *string) (err error) {
	n.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: a.Dir, SyncAlways: a.SyncAlways, DisableJetStreamBanner: true,
	})
	if err != nil {
		return err
	}
	n.server.Start()
	if !n.server.ReadyForConnections(20 * time.Second) {
		return errors.New("it isn't ready after 20s")
	}
	*url = n.server.ClientURL()
	return nil
}

// Traffic counts the messages of a client, as the server sees them.
type Traffic struct{ In, Out int64 }

// Traffic returns the traffic of all clients by name.
func (n *NATS) Traffic(_ struct{}, byName *map[string]Traffic) error {
	z, err := n.server.Connz(nil)
	if err != nil {
		return err
	}
	*byName = map[string]Traffic{}
	for _, c := range z.Conns {
		t := (*byName)[c.Name]
		(*byName)[c.Name] = Traffic{t.In + c.InMsgs, t.Out + c.OutMsgs}
	}
	return nil
}
