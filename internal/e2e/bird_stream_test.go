// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"vxsnd/internal/netlab"
)

const (
	// streamInterval is the time between two packets of a stream.
	streamInterval = 2 * time.Millisecond

	// streamFlows is how many flows they are of, in turn.
	streamFlows = 16

	// discardPort is where inner packets go to: discard (RFC 863).
	discardPort = 9
)

// A stream is numbered broadcast packets that VTEP 1 sends, of several flows.
type stream struct {
	s    *site
	sent atomic.Int64  // numbers 1 to sent have been sent, or are about to be
	end  chan struct{} // closed to end it
	done chan struct{} // closed when it has ended
}

// stream begins a stream.
func (s *site) stream() *stream {
	st := &stream{s: s, end: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(st.done)
		tick := time.NewTicker(streamInterval)
		defer tick.Stop()
		for more := true; more; {
			select {
			case <-st.end:
				// Of each flow once more: what comes last tells that all has come.
				for range streamFlows {
					st.send()
				}
				more = false
			case <-tick.C:
				st.send()
			}
		}
	}()
	s.t.Cleanup(func() { st.stop() })
	return st
}

func (st *stream) send() {
	g, n := st.s.guests[0], st.sent.Add(1)
	p := netlab.Datagram{
		Src: netip.AddrPortFrom(g.addr, uint16(20000+n%streamFlows)),
		Dst: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.255"), discardPort), TTL: 1,
		Payload: binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(n)),
	}
	if err := g.Send(g.dev, p.Frame(netlab.Broadcast, g.mac)); err != nil {
		st.s.t.Error(err)
	}
}

// stop ends the stream and returns how many packets it sent.
func (st *stream) stop() int {
	select {
	case <-st.end:
	default:
		close(st.end)
	}
	<-st.done
	return int(st.sent.Load())
}

// numberOf returns the number of a packet of a stream, 0 for any other.
func numberOf(p *netlab.Packet) int {
	if !p.UDPTo(discardPort) {
		return 0
	}
	return int(binary.BigEndian.Uint64(p.Payload))
}

// got returns how often VTEP i has received each number.
func (st *stream) got(i int) map[int]int {
	st.s.t.Helper()
	out := make(map[int]int)
	for _, p := range must(st.s.caps[i-1].Packets(func(p *netlab.Packet) bool { return numberOf(p) > 0 }))(st.s.t) {
		out[numberOf(&p)]++
	}
	return out
}

// wait waits until each other VTEP has received a packet of each flow that is sent
// from now on, and returns how long that took.
func (st *stream) wait() time.Duration {
	st.s.t.Helper()
	began := time.Now()
	st.after(int(st.sent.Load()))
	return time.Since(began)
}

// after waits until each other VTEP has received a packet of each flow with a
// higher number.
func (st *stream) after(n int) {
	st.s.t.Helper()
	for i := 2; i <= 3; i++ {
		for flow := range streamFlows {
			must(st.s.caps[i-1].Wait(within(st.s.t), 1, func(p *netlab.Packet) bool {
				k := numberOf(p)
				return k > n && k%streamFlows == flow
			}))(st.s.t)
		}
	}
}

// settle ends the stream, waits until all that will come has come, and fails the
// test if some packet came twice. It returns how many never came to each of the
// other VTEPs.
func (st *stream) settle() (missing []int) {
	st.s.t.Helper()
	st.wait()
	sent := st.stop()
	st.after(sent - streamFlows)
	for i := 2; i <= 3; i++ {
		got := st.got(i)
		for _, n := range slices.Sorted(maps.Keys(got)) {
			if got[n] != 1 {
				st.s.t.Errorf("VTEP %d: got packet %d of %d %d times", i, n, sent, got[n])
			}
		}
		missing = append(missing, sent-len(got))
	}
	if got := st.got(1); len(got) > 0 {
		st.s.t.Errorf("VTEP 1: got %d packets of its own back", len(got))
	}
	st.s.t.Logf("%d packets sent; missing at VTEPs 2 and 3: %v", sent, missing)
	return missing
}
