// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
)

// A looked tells when somebody looked at the sizes of a table, as each round
// over it begins with.
type looked struct {
	*fdb.Table
	at chan fdb.Time
	peer.Options
}

func (l *looked) Stats() fdb.Stats {
	l.at <- l.Now()
	return l.Table.Stats()
}

func TestRoundsFollowTheHoldtime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := clock()
		l := &looked{Table: table(90 * time.Second), at: make(chan fdb.Time, 1000), Options: options(nil, now)}
		l.Options.Table = l
		g := peer.New(l.Options)
		stop := run(t, g)
		defer stop()
		synctest.Wait()
		<-l.at // once everybody is told of everything
		begin := now()
		holdtime := func(d time.Duration) {
			s := l.Settings
			s.Holdtime = d
			g.Configure(s)
		}
		at := func() time.Duration { return (<-l.at).Sub(begin) }

		peer.Pass(2 * time.Second)
		holdtime(30 * time.Second)
		if got, want := at(), 10*time.Second; got != want {
			t.Errorf("a shorter holdtime: got the next round after %v, want %v", got, want)
		}
		peer.Pass(5 * time.Second)
		holdtime(9 * time.Second)
		for i, want := range []time.Duration{15, 18, 21} {
			if got := at(); got != want*time.Second {
				t.Errorf("round %d: got it after %v, want %v", i, got, want*time.Second)
			}
		}
		holdtime(90 * time.Second)
		peer.Pass(time.Second)
		g.Configure(l.Settings) // nothing is other: no round begins again
		if got, want := at(), 51*time.Second; got != want {
			t.Errorf("a longer holdtime: got the next round after %v, want %v", got, want)
		}
	})
}
