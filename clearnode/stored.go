package clearnode

import (
	"context"
	"fmt"

	"settled/settlement"
)

// Stored is nil where the node finds a session that it has, as Session showed before. It
// is one request, by the session's id, and shows whether the node's database answers.
// Errors: as of Session, without ErrSessionNotFound.
func (c *Client) Stored(ctx context.Context, id settlement.SessionID) error {
	k, err := c.pool.lease(ctx, false, 1)
	if err != nil {
		return fmt.Errorf("session %s: %w", id.Token(), err)
	}
	defer c.pool.giveBack(k, 1)
	if err := k.dialect.stored(ctx, k, id); err != nil {
		return fmt.Errorf("session %s: %w", id.Token(), unread(ctx, err))
	}
	return nil
}

func (n *nitro) stored(ctx context.Context, c *conn, id settlement.SessionID) error {
	return c.questions(ctx, question{"get_app_definition", definitionOf{id}, func(a answer) error {
		_, err := readDefinition(a)
		return err
	}})
}

func (l *legacy) stored(ctx context.Context, c *conn, id settlement.SessionID) error {
	var found definition
	r := legacyReading{l: l, conn: c, id: id}
	return c.questions(ctx, r.askDefinition(&found, nil))
}

func (v *v1) stored(ctx context.Context, c *conn, id settlement.SessionID) error {
	return c.questions(ctx, question{v1Sessions, v1SessionOf{id}, func(a answer) error {
		_, err := readV1Session(a, id)
		return err
	}})
}
