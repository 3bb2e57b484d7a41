// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A storm behind a packet that had to go up overruns raw. It comes to the kernel when
// raw is done with what it has, and no copy overtakes another.
func TestStormThatOverrunsRaw(t *testing.T) {
	p := newPlant(t)
	p.start()
	slow := time.NewTicker(500 * time.Microsecond)
	defer slow.Stop()
	begin := make(chan struct{})
	p.SetTap(&flood.Tap{
		Wants: func(vxlan.VNI) bool { return true },
		Take: func(*flood.Record) {
			<-begin
			select {
			case <-slow.C:
			case <-t.Context().Done():
			}
		},
	})

	storm := func(ttl byte) []byte {
		f := p.frame()
		binary.BigEndian.PutUint16(f[34:], 50000) // one flow
		f[22] = ttl
		return summed(f)
	}
	first := [][]byte{storm(1)}
	for range 3000 { // more than the queue takes
		first = append(first, storm(64))
	}
	err := p.far.Send("eth0", first...)
	close(begin)
	check(t, err)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for end := time.Now().Add(deadline); p.Status().Packets < 1000; <-pace.C {
		if time.Now().After(end) {
			t.Fatalf("got %+v after %v, want the storm in the kernel", p.Status(), deadline)
		}
		var burst [][]byte
		for range 10 {
			burst = append(burst, storm(64))
		}
		check(t, p.far.Send("eth0", burst...))
	}
	// Each packet was flooded by one of the two, or is counted as lost.
	until(t, "figures of all packets", func() bool {
		c := p.Counters()
		return c.Packets+c.Drops[metrics.DropKernel] == uint64(p.number)
	})
	rows, _ := p.traffic.Load(nil)
	if len(rows) != 1 || rows[0].Drops[metrics.DropKernel] == 0 {
		t.Errorf("got %+v, want packets of the VNI that the kernel dropped", rows)
	}
	if c := p.config.Raw.Counters(); c.Drops[metrics.DropKernel] == 0 {
		t.Errorf("got %+v of raw, want packets lost in its queue", c)
	}
	ps, err := p.copies.Packets(func(q *netlab.Packet) bool { return q.DstPort == vxlan.Port && q.Dst != p.addrs[0] })
	check(t, err)
	last := make(map[netip.Addr]uint32)
	for i := range ps {
		n := binary.BigEndian.Uint32(ps[i].Payload[len(ps[i].Payload)-4:])
		if n <= last[ps[i].Dst] {
			t.Fatalf("got packet %d behind %d at %v", n, last[ps[i].Dst], ps[i].Dst)
		}
		last[ps[i].Dst] = n
	}
	if len(last) != len(p.addrs)-2 {
		t.Errorf("got copies for %v, want all other members", last)
	}
}

// The stamp that the program keeps of a packet is the one that raw reads with it, so
// that a packet which never comes to raw holds up nothing behind the next.
func TestStampsOfTheSocket(t *testing.T) {
	p := newPlant(t)
	p.start()
	f := &p.current().flows
	type found struct {
		received, stamp uint64
		pending         bool
	}
	ends := make(chan found, 10)
	p.config.Raw.SetDone(func(fs []flood.Flow) {
		f.done(fs)
		for i := range fs {
			m := f.flow(flowHash(&fs[i]))
			ends <- found{uint64(fs[i].Received), atomic.LoadUint64(&m.Stamp), int64(atomic.LoadUint64(&m.Stamp)-atomic.LoadUint64(&m.Reached)) > 0}
		}
	})
	send := func(ttl byte, checksum uint16) {
		b := p.frame()
		binary.BigEndian.PutUint16(b[34:], 50000)
		binary.BigEndian.PutUint16(b[40:], checksum)
		b[22] = ttl
		check(t, p.far.Send("eth0", summed(b)))
	}
	for range 5 {
		send(64, 1) // a wrong checksum, which the socket refuses
		send(1, 0)
		if got := <-ends; got.received == 0 || got.received != got.stamp || got.pending {
			t.Errorf("got %+v, want the same stamps, and nothing pending", got)
		}
	}
	send(64, 0)
	p.arrived(p.number)
	p.wantBy(1, 5)
}
