// SPDX-License-Identifier: Apache-2.0

// Package anycast owns the service address on the loopback interface: it puts
// it there, keeps it there while the node is healthy, and takes it away in two
// steps when the node stops. Routing daemons that follow the address announce
// it and withdraw it.
//
// The kernel is told to remove the address by itself unless it is renewed, so
// that it also goes when the process is killed, stopped or stuck. An address
// that lives for ever is an operator's: it is used, and never touched.
//
// It decides nothing about health, readiness or how long a stop serves, and
// speaks no routing protocol.
package anycast

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

const (
	defaultLifetime = 3 * time.Second
	defaultRise     = 2
	defaultFall     = 3

	// maxInterval is the longest time between two renewals, and so between two
	// looks at the health.
	maxInterval = time.Second
)

// Options says which address is kept, where and how.
type Options struct {
	// Addr is the service address. It gets the longest prefix, /32 or /128.
	Addr netip.Addr

	// Lifetime is how long the kernel keeps the address without a renewal, in
	// whole seconds (rounded up); 3 s where 0. Renewals come every second, or
	// three times a lifetime where that is shorter. The kernel counts whole
	// seconds and bundles its timers (check_lifetime and addrconf_verify_rtnl): on
	// an idle Linux 6.18 the address went 0 to 0.35 s after the end of the
	// lifetime; with other addresses that expire it may be 1 s more. After a
	// crash it is therefore gone within Lifetime + 0.35 s, commonly.
	Lifetime time.Duration

	// VRF names the VRF device of the underlay, or is empty for none. The
	// address is put on lo, and in a VRF on the VRF device itself, which is the
	// loopback interface of a VRF (Documentation/networking/vrf.rst): on lo it
	// would be an address of the default table.
	VRF string

	// Log takes changes and errors; nil discards.
	Log logrus.FieldLogger

	// Rise is how many good results in a row put the address back, Fall how many
	// bad ones take it away: 2 and 3 where 0. A result is taken with each
	// renewal, so that with the other defaults a node that is not healthy has no
	// address after 2 to 3 s, no longer than one that is killed.
	Rise, Fall int
}

// An Owner says whose the address on the interface is.
type Owner uint8

// The owners. The kernel shows an address of Ours as "dynamic", with the seconds
// that it has left; one of Operator as "forever".
const (
	None     Owner = iota // the address is not there
	Ours                  // it has the longest prefix and a lifetime that ends
	Operator              // any other, which is left as it is
)

// String returns "none", "vxsnd" or "operator".
func (o Owner) String() string {
	switch o {
	case None:
		return "none"
	case Ours:
		return "vxsnd"
	case Operator:
		return "operator"
	}
	return fmt.Sprintf("Owner(%d)", o)
}

// State is what is known of the address.
type State struct {
	Owner    Owner
	Since    time.Time // of Owner; zero before Run
	Iface    string    // lo or the VRF device
	Healthy  bool      // after damping: the address is kept, or would be
	Health   error     // the last result of the health check; nil is good
	Draining bool      // Withdraw has been called, Release has not
	Err      error     // why the last attempt failed; nil after one that did not
}

// Installed tells whether the address is on the interface, whoever put it there.
func (s State) Installed() bool { return s.Owner != None }

// An Address is one service address. Check, Run, Withdraw and Release are
// called in this order, by one goroutine at a time and Run at most once; State
// may be called at any time by anybody. All of them work in the network namespace
// of the calling thread.
type Address struct {
	o        Options
	interval time.Duration
	log      logrus.FieldLogger

	mu    sync.Mutex // guards state
	state State
}

// New returns an Address, inert.
func New(o Options) *Address {
	if o.Lifetime <= 0 {
		o.Lifetime = defaultLifetime
	}
	if o.Rise <= 0 {
		o.Rise = defaultRise
	}
	if o.Fall <= 0 {
		o.Fall = defaultFall
	}
	o.Addr = o.Addr.Unmap()
	return &Address{
		o:        o,
		interval: min(maxInterval, o.Lifetime/3),
		log: logging.OrDiscard(o.Log).WithFields(logrus.Fields{
			"task": task, "local": o.Addr, "iface": ifaceOf(o.VRF),
		}),
		state: State{Iface: ifaceOf(o.VRF)},
	}
}

const task = "anycast"

// String names the task.
func (a *Address) String() string { return task }

// State returns what is known now.
func (a *Address) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// update changes the state.
func (a *Address) update(change func(*State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.state)
}

// setOwner notes whose the address is now, and returns whose it was.
func (a *Address) setOwner(now Owner) (before Owner) {
	a.update(func(s *State) {
		before = s.Owner
		if now != before || s.Since.IsZero() {
			s.Owner, s.Since = now, time.Now()
		}
	})
	return before
}
