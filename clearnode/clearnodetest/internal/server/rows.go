package server

import (
	"time"

	"github.com/shopspring/decimal"
)

// BrokerConfig answers get_config in NitroRPC and Legacy.
type BrokerConfig struct {
	Broker   string `json:"broker_address"`
	Networks []any  `json:"networks"`
}

// BrokerConfig is the node's configuration.
func (n *State) BrokerConfig() BrokerConfig { return BrokerConfig{n.Address.Hex(), []any{}} }

// AssetRow is an asset in NitroRPC and Legacy.
type AssetRow struct {
	Token    string `json:"token"`
	ChainID  uint32 `json:"chain_id"`
	Symbol   string `json:"symbol"`
	Decimals int    `json:"decimals"`
}

// AssetRows are the assets of a chain, or of all if it is nil.
func (n *State) AssetRows(chain *uint32) []AssetRow {
	rows := []AssetRow{}
	for _, a := range n.Config.Assets {
		if chain == nil || *chain == a.ChainID {
			rows = append(rows, AssetRow{a.Token.Hex(), a.ChainID, a.Symbol, a.Decimals})
		}
	}
	return rows
}

// EntryRow is a ledger entry in NitroRPC and Legacy.
type EntryRow struct {
	ID          uint64          `json:"id"`
	Account     string          `json:"account_id"`
	AccountType int             `json:"account_type"`
	Asset       string          `json:"asset"`
	Participant string          `json:"participant"`
	Credit      decimal.Decimal `json:"credit"`
	Debit       decimal.Decimal `json:"debit"`
	At          time.Time       `json:"created_at"`
}

// Row is the entry as it is reported.
func (e *Entry) Row() EntryRow {
	return EntryRow{e.ID, e.Part.Account, e.AccountType, e.Part.Asset, e.Part.Wallet, e.Credit, e.Debit, Micros(e.At)}
}
