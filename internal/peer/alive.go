// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
)

// lossKnown is how long a message that did not get through is told of.
const lossKnown = time.Minute

// A doubt is what speaks against a peer's being there. It is guarded by the
// peer's mutex.
type doubt struct {
	raised chan struct{} // holds a value while nobody has looked
	err    error         // why the last message did not get through
	at     fdb.Time
}

// Refused says that a relayed message came back: the network or the peer's
// machine refused it. The peer is asked soon whether it is there. It may be
// called concurrently and does not block.
func (g *Group) Refused(to netip.AddrPort, err error) {
	for _, p := range *g.peers.Load() {
		if p.addr == to {
			g.lost(p, fmt.Errorf("message came back: %w", err))
			return
		}
	}
}

// lost counts a relayed message that did not get through.
func (g *Group) lost(p *peer, err error) {
	p.relayErrors.Add(1)
	p.mu.Lock()
	p.doubt.err, p.doubt.at = err, g.now()
	p.mu.Unlock()
	select {
	case p.doubt.raised <- struct{}{}:
	default:
	}
	g.repeats.Do("send "+p.name, func(count int) {
		g.log.WithFields(logrus.Fields{"peer": p.addr, "count": count}).WithError(err).Warn("messages to peer lost")
	})
}

// watch finds out whether a peer is there, until ctx is done. A peer of this
// kind is asked when it was not heard for a third of the holdtime. Others are
// asked only when there is doubt, since each question costs them a connection:
// a message came back, or the last connection failed.
func (g *Group) watch(ctx context.Context, p *peer) {
	rest := minRetry
	last := fdb.Time(-g.limits.again)
	for {
		up, down := p.known()
		if !down && !g.doubtful(ctx, p) {
			return
		}
		asked := g.now()
		err := g.probe(ctx, p)
		if ctx.Err() != nil {
			return
		}
		_, downNow := p.known()
		if up && downNow {
			g.log.WithField("peer", p.addr).WithError(err).Warn("peer is gone")
		}
		// One that stays as it is, whatever the doubt, is asked less often.
		if downNow == down && asked.Sub(last) <= g.limits.again {
			rest = min(2*rest, g.limits.again)
		} else {
			rest = minRetry
		}
		last = g.now()
		if !sleep(ctx, rest-rand.N(rest/4)) {
			return
		}
	}
}

// doubtful waits until it is time to ask a peer; it returns false once ctx is
// done.
func (g *Group) doubtful(ctx context.Context, p *peer) bool {
	for {
		most := max(g.round(), g.limits.again)
		most -= rand.N(most / 4)
		wait := most
		if p.ours.Load() {
			wait = p.lastHeard().Add(most).Sub(g.now())
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-p.doubt.raised:
		case <-t.C:
			if !p.ours.Load() || p.lastHeard().Add(most) > g.now() {
				continue
			}
		}
		t.Stop()
		return ctx.Err() == nil
	}
}

// probe makes a connection to a peer, of which known tells afterwards. A peer
// that is not known to answer is told nothing, as an update that has nothing to
// tell: it would be waited for in vain.
func (g *Group) probe(ctx context.Context, p *peer) error {
	if p.ours.Load() {
		_, err := g.ask(ctx, p, vxfld.Sync{})
		return err
	}
	msg, err := vxfld.Message{Version: vxfld.V3, Body: &vxfld.Sync{}}.Append(nil)
	if err != nil {
		panic("peer: " + err.Error()) // there is nothing in it
	}
	err = g.deliver(ctx, p.addr, msg)
	if ctx.Err() == nil {
		g.connected(p, err)
	}
	return err
}

// known tells whether the last connection to the peer could be made; neither
// holds before the first one. One that turns questions away has to be asked, not
// told, to find out whether it still does.
func (p *peer) known() (up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reachable, !p.reachable && p.err != nil && (p.ours.Load() || !p.trust.away)
}

// lastHeard returns when the peer last sent something over TCP.
func (p *peer) lastHeard() fdb.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard
}

// lossLocked returns why the last relayed message did not get through, nil if
// that is long ago.
func (p *peer) lossLocked(now fdb.Time) error {
	if p.doubt.err == nil || now.Sub(p.doubt.at) > lossKnown {
		return nil
	}
	return p.doubt.err
}
