// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"vxsnd/internal/fdb"
)

const (
	// defaultRate is the default of Settings.Rate: some hundred times what a
	// registration daemon with thousands of VNIs sends.
	defaultRate = 4096

	// maxSources is how many senders are remembered. One that is forgotten
	// starts with a full allowance.
	maxSources = 8192

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
