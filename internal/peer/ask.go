// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"fmt"

	"vxsnd/internal/vxfld"
)

var errCut = errors.New("answer was cut off")

// ask sends a question to a peer and returns its answer, whole and well formed.
// A peer that closes the connection without a word gives errSilent.
func (g *Group) ask(ctx context.Context, p *peer, question vxfld.Sync) (*vxfld.SyncScan, error) {
	m, err := g.exchange(ctx, p, question)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil || errors.Is(err, errSilent) {
		g.connected(p, nil)
		p.ours.Store(m != nil && m.Node != 0)
	} else {
		g.connected(p, err)
	}
	return m, err
}

func (g *Group) exchange(ctx context.Context, p *peer, question vxfld.Sync) (*vxfld.SyncScan, error) {
	question.Node = vxfld.SyncNode
	b, err := vxfld.Message{Version: vxfld.V3, Body: &question}.Append(nil)
	if err != nil {
		return nil, err
	}
	c, err := g.dial(ctx, p.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()

	pc := g.limits.pace(c, g.limits.answer)
	if _, err := pc.Write(b); err != nil {
		return nil, fmt.Errorf("ask peer: %w", err)
	}
	if err := c.CloseWrite(); err != nil {
		return nil, fmt.Errorf("ask peer: %w", err)
	}
	b, err = pc.readAll(func() error { return nil })
	if err != nil {
		return nil, fmt.Errorf("read answer of peer: %w", err)
	}
	if len(b) == 0 {
		return nil, errSilent
	}
	p.heardAt(g.now())
	m, err := vxfld.ScanSync(b)
	if err != nil {
		return nil, fmt.Errorf("answer of peer: %w", err)
	}
	if m.Node != 0 && !m.Complete {
		return nil, errCut
	}
	return m, nil
}
