// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
)

const (
	// defaultRate is the default of Settings.Rate: some hundred times what a
	// registration daemon with thousands of VNIs sends.
	defaultRate = 4096

	// maxSources is how many senders are remembered. One that is forgotten
	// starts with a full allowance.
	maxSources = 8192

	// checkRate is how often per second the members of a VNI are looked through
	// to see whether the sender of a question is one, which takes longer than
	// all else that is done with a small question. Beyond that, and where it did
	// not register with the question, it counts as a stranger.
	checkRate = 4096

	// unitBytes is how many bytes of a message cost one unit of work more.
	unitBytes = 1024
)

// sources bounds the work that each sender causes. It is safe for concurrent
// use.
type sources struct {
	mu  sync.Mutex // guards lru and the rate and burst of its limiters
	lru *simplelru.LRU[netip.Addr, *rate.Limiter]
}

// newSources returns an empty memory.
func newSources() *sources {
	lru, err := simplelru.NewLRU[netip.Addr, *rate.Limiter](maxSources, nil)
	if err != nil {
		panic("register: " + err.Error())
	}
	return &sources{lru: lru}
}

// allow tells whether a message of n bytes from a may be looked at.
func (ss *sources) allow(now fdb.Time, a netip.Addr, n int, st *Settings) bool {
	t := time.Unix(0, int64(now))
	ss.mu.Lock()
	defer ss.mu.Unlock()
	l, ok := ss.lru.Get(a)
	if !ok {
		l = rate.NewLimiter(rate.Limit(st.Rate), st.Burst)
		ss.lru.Add(a, l)
	}
	if l.Burst() != st.Burst {
		l.SetBurstAt(t, st.Burst)
	}
	if l.Limit() != rate.Limit(st.Rate) {
		l.SetLimitAt(t, rate.Limit(st.Rate))
	}
	return l.AllowN(t, 1+n/unitBytes)
}

// classify tells how the sender of a question is known. A stranger may be made
// up, and so may a member, but not without knowing one. took says that what the
// message names was taken into the table.
func (r *reader) classify(now fdb.Time, m *vxfld.Refresh, took, peer bool, from netip.Addr) class {
	if peer || took && registers(m, from) {
		return member
	}
	if len(m.VNIs) == 0 || !r.answers.crowded() || !r.checks.AllowN(time.Unix(0, int64(now)), 1) {
		return stranger
	}
	r.members = r.table.Members(now, m.VNIs[0].VNI, r.members[:0])
	if slices.Contains(r.members, from) {
		return member
	}
	return stranger
}

// registers tells whether a message makes a a member of a VNI.
func registers(m *vxfld.Refresh, a netip.Addr) bool {
	return m.Holdtime > 0 && slices.ContainsFunc(m.VNIs, func(rec vxfld.VNIMembers) bool {
		return slices.Contains(rec.Addrs, a)
	})
}
