// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Paths follow the ways to addresses: route, device and neighbour of each, as the
// kernel would send to it. They are of the network namespace of the thread that
// OpenPaths ran on. The methods may be called concurrently; Run at most once.
type Paths struct {
	u        *Underlay
	policies *policies
	wake     chan struct{} // there is something in asked
	// compare is how often each way is compared with the kernel, whatever it told.
	compare time.Duration

	mu      sync.Mutex          // guards what follows
	asked   map[netip.Addr]bool // by Want since Run looked last: true to follow it, false to stop
	told    map[netip.Addr]Path
	devices []PathDevice
}

// OpenPaths connects to the kernel. vrf names a VRF device that routes are looked
// up in, or is empty for none. Run needs CAP_NET_ADMIN.
func OpenPaths(vrf string, log logrus.FieldLogger) (*Paths, error) {
	u, err := open(vrf, true, log)
	if err != nil {
		return nil, err
	}
	x, err := openPolicies()
	if err != nil {
		u.Close()
		return nil, err
	}
	return &Paths{
		u: u, policies: x, wake: make(chan struct{}, 1),
		asked: make(map[netip.Addr]bool), told: make(map[netip.Addr]Path), compare: comparePaths,
	}, nil
}

// Close ends the connection to the kernel. Run must have returned.
func (p *Paths) Close() {
	p.u.Close()
	p.policies.close()
}

// Want says to which addresses the way is of interest from now on, and to which
// no more. The way to each of add is told soon, also where it was told before.
func (p *Paths) Want(add, drop []netip.Addr) {
	p.mu.Lock()
	for _, a := range drop {
		p.asked[a] = false
	}
	for _, a := range add {
		p.asked[a] = true
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Path returns the way to an address as it was told last, PathPending where it
// was not.
func (p *Paths) Path(a netip.Addr) Path {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told[a]
}

// Devices returns the devices that the ways to wanted addresses leave by, also
// where the next hop does not resolve, in the order of their indexes.
func (p *Paths) Devices() []PathDevice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.devices)
}

// takeAsked returns what Want was called with since.
func (p *Paths) takeAsked() map[netip.Addr]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) == 0 {
		return nil
	}
	asked := p.asked
	p.asked = make(map[netip.Addr]bool)
	for a := range asked {
		delete(p.told, a) // it may be an address that was dropped meanwhile, and is new
	}
	return asked
}
