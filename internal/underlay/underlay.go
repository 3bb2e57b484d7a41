// SPDX-License-Identifier: Apache-2.0

// Package underlay follows what the kernel knows of the network that VXLAN
// packets travel on, over netlink: the machine's own addresses, which devices
// belong to a VRF, the neighbours that do not resolve, and the VXLAN devices. It
// changes where these send what they cannot place, as it is told. It decides
// nothing.
package underlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle is the shortest time between two readings of the addresses:
	// changes come in bursts. The first of them is read at once.
	settle = 50 * time.Millisecond

	// resubscribe is the pause before a lost subscription is made again.
	resubscribe = 200 * time.Millisecond

	// receiveBuffer is that of the netlink sockets in bytes. When it overruns
	// (ENOBUFS), the subscription is made again and everything is read anew.
	receiveBuffer = 1 << 20

	// queue is the number of changes between netlink and the reader.
	queue = 256
)

// An Underlay is the part of the machine's network that one service node
// works in: one VRF, or what is in none. Its methods may be called
// concurrently; Run at most once.
type Underlay struct {
	vrf        string
	log        logrus.FieldLogger
	handle     *netlink.Handle
	unresolved atomic.Pointer[map[netip.Addr]struct{}]
	ask        chan chan struct{} // requests to read the neighbours again
}

// Open connects to the kernel. vrf names a VRF device, or is empty for the
// devices that are in none. It needs no capability.
func Open(vrf string, log logrus.FieldLogger) (*Underlay, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	u := &Underlay{vrf: vrf, log: log.WithField("task", task), handle: h, ask: make(chan chan struct{})}
	if vrf != "" {
		l, err := h.LinkByName(vrf)
		switch {
		case errors.As(err, new(netlink.LinkNotFoundError)):
			err = errors.New("there is no such device")
		case err == nil && l.Type() != "vrf":
			err = errors.New("not a VRF device")
		}
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("vrf %s: %w", vrf, err)
		}
	}
	return u, nil
}

const task = "underlay"

// String names the task.
func (u *Underlay) String() string { return task }

// Close ends the connection to the kernel.
func (u *Underlay) Close() { u.handle.Close() }

// Addresses returns the addresses of this machine in the underlay, unmapped,
// without zones, sorted.
func (u *Underlay) Addresses() ([]netip.Addr, error) {
	in, err := u.devices()
	if err != nil {
		return nil, err
	}
	list, err := retry(func() ([]netlink.Addr, error) { return u.handle.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	set := make(map[netip.Addr]struct{}, len(list))
	for _, a := range list {
		if a.IPNet == nil || !in[a.LinkIndex] {
			continue
		}
		if addr, ok := fromIP(a.IP); ok {
			set[addr] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare), nil
}

// devices returns the indexes of the devices in the underlay. A device is in
// the VRF that its chain of masters ends in.
func (u *Underlay) devices() (map[int]bool, error) {
	links, err := retry(func() ([]netlink.Link, error) { return u.handle.LinkList() })
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	byIndex := make(map[int]netlink.Link, len(links))
	for _, l := range links {
		byIndex[l.Attrs().Index] = l
	}
	in := make(map[int]bool, len(links))
	for i, l := range byIndex {
		in[i] = vrfOf(l, byIndex) == u.vrf
	}
	return in, nil
}

func vrfOf(l netlink.Link, byIndex map[int]netlink.Link) string {
	for range len(byIndex) { // a chain is never longer
		if l.Type() == "vrf" {
			return l.Attrs().Name
		}
		master, ok := byIndex[l.Attrs().MasterIndex]
		if !ok {
			return ""
		}
		l = master
	}
	return ""
}

// retry repeats a listing that changed while the kernel wrote it.
func retry[T any](list func() (T, error)) (T, error) {
	for range 4 {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	return list()
}

func fromIP(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// Unresolved returns the neighbours whose link-layer address does not
// resolve: the kernel keeps packets to them for seconds before it drops them.
// It is nil if there are none, and must not be modified.
func (u *Underlay) Unresolved() map[netip.Addr]struct{} {
	if m := u.unresolved.Load(); m != nil {
		return *m
	}
	return nil
}

// Recheck has Run look for neighbours that do not resolve, and returns when
// Unresolved shows them, or after wait. The kernel says nothing of neighbours
// that it has only begun to resolve, so whoever waits for them asks.
func (u *Underlay) Recheck(wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	done := make(chan struct{})
	select {
	case u.ask <- done:
	case <-t.C:
		return
	}
	select {
	case <-done:
	case <-t.C:
	}
}

// Run follows the kernel until ctx is done. It calls changed with the
// machine's addresses at the start, and again whenever they have changed.
func (u *Underlay) Run(ctx context.Context, changed func([]netip.Addr)) error {
	f := follower{u: u, changed: changed}
	for {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		u.log.WithError(err).Debug("netlink subscription lost, reading everything again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(resubscribe):
		}
	}
}

// A follower is the state of Run.
type follower struct {
	u       *Underlay
	changed func([]netip.Addr)
	known   []netip.Addr
	told    bool
	in      map[int]bool
	neighs  neighbours
}

// follow subscribes, reads everything, and follows until a subscription ends.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan error, 8)
	note := func(err error) {
		select {
		case lost <- err:
		default:
		}
	}
	addrs := make(chan netlink.AddrUpdate, queue)
	links := make(chan netlink.LinkUpdate, queue)
	neighs := make(chan netlink.NeighUpdate, queue)
	if err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{
		ErrorCallback: note, ReceiveBufferSize: receiveBuffer}); err != nil {
		return fmt.Errorf("subscribe to addresses: %w", err)
	}
	defer drain(addrs, cancel)
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{
		ErrorCallback: note, ReceiveBufferSize: receiveBuffer}); err != nil {
		return fmt.Errorf("subscribe to devices: %w", err)
	}
	defer drain(links, cancel)
	if err := netlink.NeighSubscribeWithOptions(neighs, ctx.Done(), netlink.NeighSubscribeOptions{
		ErrorCallback: note, ReceiveBufferSize: receiveBuffer}); err != nil {
		return fmt.Errorf("subscribe to neighbours: %w", err)
	}
	defer drain(neighs, cancel)

	if err := f.read(); err != nil {
		return err
	}
	if err := f.readNeighbours(); err != nil {
		return err
	}
	timer := time.NewTimer(settle)
	timer.Stop()
	defer timer.Stop()
	pending, last := false, time.Now()
	readSoon := func() {
		if !pending {
			pending = true
			timer.Reset(max(0, settle-time.Since(last)))
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return err
		case _, ok := <-addrs:
			if !ok {
				return errors.New("subscription to addresses ended")
			}
			readSoon()
		case _, ok := <-links:
			if !ok {
				return errors.New("subscription to devices ended")
			}
			readSoon()
		case n, ok := <-neighs:
			if !ok {
				return errors.New("subscription to neighbours ended")
			}
			f.neighbour(n.Type, &n.Neigh)
		case done := <-f.u.ask:
			err := f.readNeighbours()
			close(done)
			if err != nil {
				return err
			}
		case <-timer.C:
			pending, last = false, time.Now()
			if err := f.read(); err != nil {
				return err
			}
		}
	}
}

// drain ends a subscription and waits for its goroutine.
func drain[T any](c <-chan T, cancel func()) {
	cancel()
	for range c {
	}
}

// read reads devices and addresses, and tells of a change.
func (f *follower) read() error {
	in, err := f.u.devices()
	if err != nil {
		return err
	}
	f.in = in
	list, err := f.u.Addresses()
	if err != nil {
		return err
	}
	if !f.told || !slices.Equal(list, f.known) {
		f.known, f.told = list, true
		f.changed(list)
	}
	return nil
}

func (f *follower) readNeighbours() error {
	list, err := retry(func() ([]netlink.Neigh, error) { return f.u.handle.NeighList(0, unix.AF_UNSPEC) })
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	f.neighs = make(neighbours, len(list))
	for i := range list {
		if n, ok := f.inUnderlay(&list[i]); ok {
			f.neighs[n] = list[i].State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0
		}
	}
	f.publish()
	return nil
}

// inUnderlay names a neighbour, if it is one of the underlay.
func (f *follower) inUnderlay(n *netlink.Neigh) (neighbour, bool) {
	if n.Family != unix.AF_INET && n.Family != unix.AF_INET6 {
		return neighbour{}, false // a bridge's forwarding entry
	}
	a, ok := fromIP(n.IP)
	return neighbour{n.LinkIndex, a}, ok && f.in[n.LinkIndex]
}

// neighbour takes in a change of one neighbour. The kernel tells when it fails
// to resolve and when it resolves; while it tries (NUD_INCOMPLETE) it says
// nothing, or nothing new.
func (f *follower) neighbour(typ uint16, change *netlink.Neigh) {
	n, ok := f.inUnderlay(change)
	if !ok || typ == unix.RTM_NEWNEIGH && change.State&netlink.NUD_INCOMPLETE != 0 {
		return
	}
	before, known := f.neighs[n]
	if typ == unix.RTM_DELNEIGH {
		delete(f.neighs, n)
	} else {
		f.neighs[n] = change.State&netlink.NUD_FAILED != 0
	}
	// Most changes are of neighbours that are well and stay so.
	if after, still := f.neighs[n]; after != before || still != known {
		f.publish()
	}
}

// publish hands out a new set: readers hold the old one without a lock.
func (f *follower) publish() {
	set := f.neighs.unresolved()
	if len(set) == 0 {
		f.u.unresolved.Store(nil)
		return
	}
	f.u.unresolved.Store(&set)
}

// A neighbour is an address on a link.
type neighbour struct {
	link int
	addr netip.Addr
}

// neighbours are those that the kernel knows, as many as its table holds
// (gc_thresh3, arp(7)), with whether they do not resolve.
type neighbours map[neighbour]bool

// unresolved returns the addresses that do not resolve on any link: one that
// has moved to another link may be a failed neighbour on the old one for long.
func (ns neighbours) unresolved() map[netip.Addr]struct{} {
	var set map[netip.Addr]struct{}
	for n, bad := range ns {
		if bad {
			if set == nil {
				set = make(map[netip.Addr]struct{})
			}
			set[n.addr] = struct{}{}
		}
	}
	if set == nil {
		return nil
	}
	for n, bad := range ns {
		if !bad {
			delete(set, n.addr)
		}
	}
	return set
}
