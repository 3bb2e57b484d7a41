// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// A fakeEngine floods nothing and says what happens to it.
type fakeEngine struct {
	flood.Engine
	running chan struct{} // closed by Run
	closed  chan struct{}
	fail    chan error // ends Run
	packets uint64
}

func newFakeEngine(packets uint64) *fakeEngine {
	return &fakeEngine{
		running: make(chan struct{}), closed: make(chan struct{}), fail: make(chan error, 1), packets: packets,
	}
}

func (e *fakeEngine) Run(ctx context.Context) error {
	close(e.running)
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.fail:
		return err
	}
}

func (e *fakeEngine) Close() error {
	close(e.closed)
	return nil
}

func (e *fakeEngine) Counters() metrics.FloodCount {
	return metrics.FloodCount{VNICount: metrics.VNICount{Packets: e.packets}}
}

func TestEnginesTakeTurns(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFlooding(newCaptures(1))
	first, second := newFakeEngine(3), newFakeEngine(4)
	f.set(first)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	<-first.running

	if !f.replace(nil) || f.current() != nil {
		t.Errorf("got an engine after it was taken away")
	}
	<-first.closed
	if !f.replace(second) || f.current() != second {
		t.Errorf("got another engine than the one that was put in place")
	}
	<-second.running
	if got := f.counters().Packets; got != 7 {
		t.Errorf("got %d packets of both engines, want 7", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if f.replace(newFakeEngine(0)) {
		t.Errorf("got an engine replaced after the end")
	}
	if err := f.close(); err != nil {
		t.Errorf("close: got %v, want nil", err)
	}
	<-second.closed
}

func TestEngineThatFailsEndsFlooding(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := newFlooding(newCaptures(1))
	e := newFakeEngine(0)
	f.set(e)
	e.fail <- errors.New("socket is gone")
	if err := f.run(t.Context()); err == nil {
		t.Errorf("got nil, want the engine's error")
	}
}

func TestMemberChanges(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	from := []config.Membership{{Addr: a, VNIs: []vxlan.VNI{1, 2, 2}}, {Addr: b, VNIs: []vxlan.VNI{1}}}
	to := []config.Membership{{Addr: b, VNIs: []vxlan.VNI{3}}, {Addr: a, VNIs: []vxlan.VNI{2}}, {Addr: a, VNIs: []vxlan.VNI{1}}}
	add, gone := memberChanges(from, to)
	if len(add) != 1 || add[0] != (fdb.Update{VNI: 3, Addr: b, Source: fdb.Configuration, Holdtime: fdb.Static}) {
		t.Errorf("got %v to add, want %s in VNI 3", add, b)
	}
	if len(gone) != 1 || gone[0] != (fdb.Update{VNI: 1, Addr: b, Source: fdb.Configuration}) {
		t.Errorf("got %v to withdraw, want %s in VNI 1", gone, b)
	}
}
