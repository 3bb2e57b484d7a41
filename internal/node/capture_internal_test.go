// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// A tapped is an engine that packets are handed to.
type tapped struct {
	*fakeEngine
	mu       sync.Mutex
	tap      *flood.Tap
	diverted map[vxlan.VNI]bool
}

func newTapped() *tapped {
	return &tapped{fakeEngine: newFakeEngine(0), diverted: make(map[vxlan.VNI]bool)}
}

func (e *tapped) Configure(flood.Settings) {}

func (e *tapped) SetTap(t *flood.Tap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tap = t
}

func (e *tapped) Divert(vni vxlan.VNI, on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.diverted[vni] = on; !on {
		delete(e.diverted, vni)
	}
}

// state returns whether there is a tap, and what is diverted.
func (e *tapped) state() (bool, []vxlan.VNI) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var vnis []vxlan.VNI
	for v := range e.diverted {
		vnis = append(vnis, v)
	}
	slices.Sort(vnis)
	return e.tap != nil, vnis
}

// flood has the tap see a packet, and returns whether it wanted it.
func (e *tapped) flood(r flood.Record) bool {
	e.mu.Lock()
	tap := e.tap
	e.mu.Unlock()
	if tap == nil || !tap.Wants(r.VNI) {
		return false
	}
	tap.Take(&r)
	for i := range r.Payload {
		r.Payload[i] = 0xee // the buffer of the next packet
	}
	return true
}

func record(vni vxlan.VNI, payload ...byte) flood.Record {
	return flood.Record{VNI: vni, Payload: payload}
}

func TestCapture(t *testing.T) {
	defer goleak.VerifyNone(t)
	n := newNode(t, func(c *config.Config) { c.CaptureRate = 500 })
	e := newTapped()
	n.flooding.set(e)
	if tap, _ := e.state(); tap {
		t.Error("got a tap while nobody captures, want none")
	}
	s := watching[control.CaptureEvent](t, n, control.CommandCapture, object{"vni": 5, "count": 2, "snap": 3}, false)
	if first := s.next(t); first.Start == nil || first.Start.Rate != 500 {
		t.Errorf("got %+v at first, want the rate", first)
	}
	if tap, vnis := e.state(); !tap || !slices.Equal(vnis, []vxlan.VNI{5}) {
		t.Errorf("got tap %v, diverted %v, want those of VNI 5", tap, vnis)
	}
	if e.flood(record(6, 1)) {
		t.Error("got a packet of another VNI wanted")
	}
	now := time.Now().Round(0)
	r := flood.Record{
		Time: now, VNI: 5, Source: netip.MustParseAddrPort("192.0.2.1:49152"), Destination: netip.MustParseAddrPort("192.0.2.100:4789"),
		TTL: 64, TOS: 8, Payload: []byte{1, 2, 3, 4}, Copies: 11, Learned: true,
	}
	r.CopyDrops[metrics.DropUnreachable] = 2
	for _, r := range []flood.Record{r, {VNI: 5, Drop: metrics.DropTTL, Payload: []byte{9}}} {
		if !e.flood(r) {
			t.Error("got a packet not wanted")
		}
	}
	e.flood(record(5, 3)) // one too many
	want := []control.Captured{
		{
			Time: now, VNI: 5, Source: r.Source, Destination: r.Destination, TTL: 64, TOS: 8, Length: 4, Payload: []byte{1, 2, 3},
			Copies: 11, CopyDrops: map[string]uint32{"unreachable": 2}, Learned: true,
		},
		{VNI: 5, Length: 1, Payload: []byte{9}, Drop: "ttl"},
	}
	var got []control.Captured
	for len(got) < len(want) {
		got = append(got, s.next(t).Packets...)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
	// There were enough: it ends by itself, and nothing is left of it.
	check(t, <-s.ended)
	if tap, vnis := e.state(); tap || len(vnis) > 0 {
		t.Errorf("got tap %v, diverted %v after the end, want none", tap, vnis)
	}
	if got := n.captures.packets.Load(); got != 2 {
		t.Errorf("got %d packets counted, want 2", got)
	}
}

func TestCaptureWithoutFlooding(t *testing.T) {
	_, err := ask[any](t, newNode(t), control.CommandCapture, object{"vni": 5})
	wantError(t, err, control.CodeFailed, "floods nothing", "no_flood")
}

// Captures of one VNI see the same packets, and go on with another engine.
func TestCapturesGoOnWithAnotherEngine(t *testing.T) {
	defer goleak.VerifyNone(t)
	n := newNode(t)
	first, second := newTapped(), newTapped()
	n.flooding.set(first)
	type capture = *stream[control.CaptureEvent]
	begin := func(vni int) capture {
		s := watching[control.CaptureEvent](t, n, control.CommandCapture, object{"vni": vni}, false)
		s.next(t)
		return s
	}
	a, b, other := begin(5), begin(5), begin(6)
	wants := func(e *tapped, tap bool, vnis ...vxlan.VNI) {
		t.Helper()
		if got, diverted := e.state(); got != tap || !slices.Equal(diverted, vnis) {
			t.Errorf("got tap %v, diverted %v, want %v, %v", got, diverted, tap, vnis)
		}
	}
	wants(first, true, 5, 6)

	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- n.flooding.run(ctx) }()
	<-first.running
	n.flooding.replace(nil)
	n.flooding.replace(second)
	wants(second, true, 5, 6)
	second.flood(record(5, 1))
	for _, s := range []capture{a, b} {
		if got := s.next(t); len(got.Packets) != 1 {
			t.Errorf("got %+v, want the packet of the new engine", got)
		}
	}
	a.end(t)
	wants(second, true, 5, 6)
	b.end(t)
	wants(second, true, 6)
	other.end(t)
	wants(second, false)
	cancel()
	check(t, <-ran)
	if got := n.captures.running(); got != 0 {
		t.Errorf("got %d captures, want none", got)
	}
}

// Those of one second may come at once; what is above the rate is counted.
func TestCaptureIsSampledAboveItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaptures(10)
		p := &capture{signal: make(chan struct{}, 1), left: -1}
		c.add(5, p)
		taken := func(n int) (got int) {
			for range n {
				if r := record(5, 1); c.wants(5) {
					c.take(&r)
					got++
				}
			}
			return got
		}
		if got := taken(30); got != 10 {
			t.Errorf("got %d packets of 30 at once, want 10", got)
		}
		pass(500 * time.Millisecond)
		if got := taken(30); got != 5 {
			t.Errorf("got %d packets after half a second, want 5", got)
		}
		pass(time.Hour)
		if got := taken(30); got != 10 {
			t.Errorf("got %d packets after an hour, want 10", got)
		}
		c.setRate(1000)
		pass(100 * time.Millisecond)
		if got := taken(300); got != 100 {
			t.Errorf("got %d packets in a tenth of a second at a higher rate, want 100", got)
		}
		if got := p.lost.Load(); got != 20+25+20+200 || c.lost.Load() != got {
			t.Errorf("got %d lost, %d of all, want 265", got, c.lost.Load())
		}
		c.remove(5, p)
		if c.wants(5) {
			t.Error("got a packet wanted when nobody captures any more")
		}
	})
}

// Several workers together get no more than the rate allows.
func TestCaptureRateOfManyWorkers(t *testing.T) {
	const rate = 1000
	b := bucket{}
	var workers sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 8 {
		workers.Go(func() {
			got := 0
			for range 10 * rate {
				if b.take(time.Hour, time.Second/rate) {
					got++
				}
			}
			mu.Lock()
			total += got
			mu.Unlock()
		})
	}
	workers.Wait()
	if total != rate {
		t.Errorf("got %d packets at one moment, want %d", total, rate)
	}
}

// What waits for a client that does not read is bounded, also while it is sent.
func TestCaptureOfAClientThatHangs(t *testing.T) {
	const size, most = 60 << 10, captureBytes / (60<<10 + recordBytes)
	p := &capture{signal: make(chan struct{}, 1), left: -1}
	put := func() (got int) {
		for range 2 * most {
			r := record(5, make([]byte, size)...)
			if p.put(&r) == taken {
				got++
			}
		}
		return got
	}
	if got := put(); got != most {
		t.Errorf("got %d packets, want %d", got, most)
	}
	packets, end, done := p.get()
	if len(packets) != most || end {
		t.Errorf("got %d packets, end %v, want %d and more to come", len(packets), end, most)
	}
	if got := put(); got != 0 {
		t.Errorf("got %d packets while the others are sent, want none", got)
	}
	done()
	if got := put(); got != most {
		t.Errorf("got %d packets after the others were sent, want %d", got, most)
	}
	if got := p.lost.Load(); got != 4*most {
		t.Errorf("got %d lost, want %d", got, 4*most)
	}
}

// Packets are sent in parts that fit a line of an answer.
func TestPartsOfACapture(t *testing.T) {
	for _, size := range []int{1, 1500, 65507} {
		packets := make([]control.Captured, 1000)
		for i := range packets {
			packets[i].Payload = make([]byte, size)
		}
		got := 0
		check(t, sendPackets(control.NewCall(nil, func(v any) error {
			b, err := json.Marshal(v)
			got += len(v.(*control.CaptureEvent).Packets)
			if len(b) > 1<<20 {
				t.Errorf("size %d: got a part of %d bytes, want 1 MiB at most", size, len(b))
			}
			return err
		}, nil), packets))
		if got != len(packets) {
			t.Errorf("size %d: got %d packets, want %d", size, got, len(packets))
		}
	}
}

func BenchmarkTapWants(b *testing.B) {
	c := newCaptures(1000)
	c.add(5, &capture{signal: make(chan struct{}, 1), left: -1})
	for name, vni := range map[string]vxlan.VNI{"other": 6, "captured": 5} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.wants(vni)
			}
		})
	}
}
