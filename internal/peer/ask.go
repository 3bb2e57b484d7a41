// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"vxsnd/internal/vxfld"
)

var (
	errCut  = errors.New("answer was cut off")
	errAway = errors.New("does it name this node in its svcnode_peers?")
)

// away adds to the error of a peer that closed the connection without a word
// what is most often the reason.
func away(err error) error { return fmt.Errorf("%w (%w)", err, errAway) }

// isReset tells whether a connection was reset by its other side, at whatever
// step that showed.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}

// isFault tells whether an answer came that cannot be used.
func isFault(err error) bool {
	return errors.As(err, new(vxfld.Reason)) || errors.Is(err, errCut) || errors.Is(err, errLarge)
}

// ask sends a question to a peer and returns its answer, whole and well formed.
// A peer that closes the connection without a word gives errSilent, and errAway
// where any peer would have answered, or it was reset.
func (g *Group) ask(ctx context.Context, p *peer, question vxfld.Sync) (*vxfld.SyncScan, error) {
	return g.askHearing(ctx, p, question, func() {})
}

// askHearing is ask for who wants to know of each piece of the answer.
func (g *Group) askHearing(ctx context.Context, p *peer, question vxfld.Sync, heard func()) (*vxfld.SyncScan, error) {
	began := false
	m, err := g.exchange(ctx, p, question, func() {
		began = true
		heard()
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	// Deployed nodes have an answer to this question alone.
	silent := errors.Is(err, errSilent) && question.Response == vxfld.ResponseAll
	if silent || isReset(err) && !began {
		err = away(err)
	}
	if err == nil {
		p.useful(true)
	} else if began && !errors.Is(err, errBusy) {
		p.useful(false)
	}
	p.turnedAway(errors.Is(err, errAway))
	// A greeting means nothing to others, which may leave their end open for long.
	mute := question.Response != vxfld.ResponseAll && !p.ours.Load() && !began && errors.Is(err, os.ErrDeadlineExceeded)
	switch closed := errors.Is(err, errSilent) && !silent; {
	case err == nil || mute || closed:
		g.connected(p, nil)
		p.answered(closed, nil)
		g.know(p, m != nil && m.Node != 0)
	case isFault(err):
		g.connected(p, nil)
		p.answered(false, err) // it was heard
	case errors.Is(err, errBusy):
		g.connected(p, nil) // there was no room for the answer here
	default:
		g.connected(p, err)
	}
	return m, err
}

// exchange has one exchange with a peer, and calls heard for each piece of the
// answer.
func (g *Group) exchange(ctx context.Context, p *peer, question vxfld.Sync, heard func()) (*vxfld.SyncScan, error) {
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
	pc.heard = func() {
		p.heardAt(g.now())
		heard()
	}
	if question.Response == vxfld.ResponseAll && !p.ours.Load() {
		pc.wait = g.limits.first
	}
	if _, err := pc.Write(b); err != nil {
		return nil, fmt.Errorf("ask peer: %w", err)
	}
	if err := c.CloseWrite(); err != nil {
		return nil, fmt.Errorf("ask peer: %w", err)
	}
	leave := func() {}
	b, err = pc.readAll(func() (err error) {
		leave, err = g.limits.enter(ctx, g.largeAnswers)
		return err
	})
	defer leave()
	if err != nil {
		return nil, fmt.Errorf("read answer of peer: %w", err)
	}
	if len(b) == 0 {
		return nil, errSilent
	}
	m, err := vxfld.ScanSync(b)
	if err != nil {
		return nil, fmt.Errorf("answer of peer: %w", err)
	}
	if m.Node != 0 && !m.Complete {
		return nil, errCut
	}
	return m, nil
}
