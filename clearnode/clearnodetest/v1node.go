package clearnodetest

import (
	"strconv"
	"strings"
)

func v1Ping(*Node, *conn, *request) (any, error) { return struct{}{}, nil }

// v1Chain is a blockchain that the node pretends to be connected to.
type v1Chain struct {
	Name  string `json:"name"`
	ID    string `json:"blockchain_id"`
	Hub   string `json:"channel_hub_address"`
	Delay uint32 `json:"confirmation_delay_secs"`
}

func v1Config(n *Node, _ *conn, _ *request) (any, error) {
	told := struct {
		Chains     []v1Chain `json:"blockchains"`
		Address    string    `json:"node_address"`
		Version    string    `json:"node_version"`
		Validators []byte    `json:"supported_sig_validators"`
	}{[]v1Chain{}, strings.ToLower(n.address.Hex()), "v1.0.0", []byte{0, 1}}
	seen := map[uint32]bool{}
	for _, a := range n.cfg.Assets {
		if !seen[a.ChainID] {
			told.Chains = append(told.Chains, v1Chain{"stub", number(uint64(a.ChainID)), "0x3333333333333333333333333333333333333333", 0})
		}
		seen[a.ChainID] = true
	}
	return told, nil
}

type v1Asset struct {
	Name      string    `json:"name"`
	Symbol    string    `json:"symbol"`
	Decimals  int       `json:"decimals"`
	Suggested string    `json:"suggested_blockchain_id"`
	Tokens    []v1Token `json:"tokens"`
}

type v1Token struct {
	Name     string `json:"name"`
	Symbol   string `json:"symbol"`
	Address  string `json:"address"`
	ChainID  string `json:"blockchain_id"`
	Decimals int    `json:"decimals"`
}

func v1Assets(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		ChainID *string `json:"blockchain_id"`
	}
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	if p.ChainID != nil {
		id, err := strconv.ParseUint(*p.ChainID, 10, 64)
		if err != nil {
			return nil, refusal("invalid blockchain_id")
		}
		*p.ChainID = number(id)
	}
	told := struct {
		Assets []*v1Asset `json:"assets"`
	}{[]*v1Asset{}}
	bySymbol := map[string]*v1Asset{}
	for _, a := range n.cfg.Assets {
		if p.ChainID != nil && *p.ChainID != number(uint64(a.ChainID)) {
			continue
		}
		if bySymbol[a.Symbol] == nil {
			decimals, _ := n.decimals(a.Symbol)
			bySymbol[a.Symbol] = &v1Asset{Name: a.name(), Symbol: a.Symbol, Decimals: decimals, Suggested: number(uint64(a.ChainID))}
			told.Assets = append(told.Assets, bySymbol[a.Symbol])
		}
		all := &bySymbol[a.Symbol].Tokens
		*all = append(*all, v1Token{a.name(), a.Symbol, strings.ToLower(a.Token.Hex()), number(uint64(a.ChainID)), a.Decimals})
	}
	return told, nil
}

// decimals are an asset's: the fewest over its chains.
func (n *Node) decimals(symbol string) (fewest int, known bool) {
	for _, a := range n.cfg.Assets {
		if a.Symbol == symbol && (!known || a.Decimals < fewest) {
			fewest, known = a.Decimals, true
		}
	}
	return fewest, known
}

// name is what people call the asset.
func (a Asset) name() string {
	if known := map[string]string{"usdc": "USD Coin", "weth": "Wrapped Ether"}[a.Symbol]; known != "" {
		return known
	}
	return a.Symbol
}

// number is how the wire writes a count: as a string.
func number(n uint64) string { return strconv.FormatUint(n, 10) }
