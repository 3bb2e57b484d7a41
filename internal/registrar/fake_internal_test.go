// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

// A datagram is a message on its way.
type datagram struct {
	b    []byte
	peer netip.AddrPort // who sent it, or is to get it
	self netip.Addr     // the address that it is sent from
	at   time.Time
}

// A fakeConn is a socket whose other end is the test.
type fakeConn struct {
	in     chan datagram
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	out  []datagram
	fail func(to netip.AddrPort) error
}

func newFakeConn() *fakeConn {
	return &fakeConn{in: make(chan datagram), closed: make(chan struct{})}
}

func (c *fakeConn) ReadFrom(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), d.peer, d.self, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, netip.Addr{}, net.ErrClosed
	}
}

func (c *fakeConn) WriteTo(b []byte, to netip.AddrPort, from netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	if c.fail != nil {
		if err := c.fail(to); err != nil {
			return err
		}
	}
	c.out = append(c.out, datagram{slices.Clone(b), to, from, time.Now()})
	return nil
}

func (c *fakeConn) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("0.0.0.0:10001") }

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fakeConn) refuse(fail func(to netip.AddrPort) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

// A source is what the kernel tells: devices or addresses.
type source[T any] struct {
	first      T
	updates    chan T
	errs       chan error
	broadcasts map[netip.Addr]struct{}
}

func newSource[T any](first T) *source[T] {
	return &source[T]{first: first, updates: make(chan T), errs: make(chan error)}
}

func (s *source[T]) Broadcasts() map[netip.Addr]struct{} { return s.broadcasts }

func (s *source[T]) Run(ctx context.Context, changed func(T)) error {
	changed(s.first)
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-s.updates:
			changed(v)
		case err := <-s.errs:
			return err
		}
	}
}

func (s *source[T]) Close() {}

// fakeDevices route everything from 10.0.0.9, or nothing.
type fakeDevices struct {
	*source[[]underlay.Device]
	noRoute *atomic.Bool
	routes  chan struct{} // says that this has changed
}

func (d fakeDevices) FollowRoutes(ctx context.Context, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.routes:
			changed()
		}
	}
}

func (d fakeDevices) Source(netip.Addr, string) (netip.Addr, error) {
	if d.noRoute.Load() {
		return netip.Addr{}, errUnreachable
	}
	return addr("10.0.0.9"), nil
}

// fakeLists are flood lists that nobody programs.
type fakeLists struct {
	mu       sync.Mutex
	adopted  map[headend.Key][]netip.Addr
	lists    map[headend.Key][]netip.Addr
	changes  int // calls of Set and Drop
	kept     int // calls of Keep
	settings headend.Settings
	managed  map[string]bool // devices
	flushed  bool
	closed   bool
}

func (l *fakeLists) Adopted() map[headend.Key][]netip.Addr { return maps.Clone(l.adopted) }

func (l *fakeLists) Set(lists map[headend.Key][]netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	maps.Copy(l.lists, lists)
}

func (l *fakeLists) Drop(keys ...headend.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	for _, k := range keys {
		delete(l.lists, k)
	}
}

func (l *fakeLists) Keep(present map[headend.Key]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept++
	maps.DeleteFunc(l.lists, func(k headend.Key, _ []netip.Addr) bool { _, ok := present[k]; return !ok })
}

func (l *fakeLists) Configure(s headend.Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings = s
}

func (l *fakeLists) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (l *fakeLists) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushed = true
	clear(l.lists)
	return nil
}

func (l *fakeLists) Close() error {
	l.closed = true
	return nil
}

func (l *fakeLists) Status() map[headend.Key]headend.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[headend.Key]headend.Status)
	for k, m := range l.lists {
		out[k] = headend.Status{Wanted: len(m), Own: len(m), Managed: l.managed[k.Device]}
	}
	return out
}

// text shows the lists as "DEVICE/VNI[N N]", with the last numbers of 10.0.0.N.
func (l *fakeLists) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(l.lists), func(a, b headend.Key) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), cmp.Compare(a.Device, b.Device))
	}) {
		var ns []int
		for _, a := range l.lists[k] {
			ns = append(ns, int(a.As4()[3]))
		}
		out = append(out, fmt.Sprintf("%s/%d%v", k.Device, k.VNI, ns))
	}
	return strings.Join(out, " ")
}

func (l *fakeLists) changed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// fakeFDB is what flood entries the kernel has.
type fakeFDB struct{ entries []underlay.FloodEntry }

func (f *fakeFDB) Read(int) (underlay.FloodTable, error) {
	return underlay.FloodTable{Entries: f.entries}, nil
}
