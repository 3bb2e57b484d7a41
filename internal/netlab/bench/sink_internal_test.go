// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"vxsnd/internal/netlab"
)

// patience bounds waits for what happens at once on an idle machine.
const patience = 30 * time.Second

func TestSinkCountsWhatIsRight(t *testing.T) {
	nl := netlab.Test(t)
	a, err1 := nl.Namespace("a")
	b, err2 := nl.Namespace("b")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := netlab.Veth(a, "eth0", b, "eth0", 0); err != nil {
		t.Fatal(err)
	}
	tab := table{members: 3, vnis: 2}
	s, err := newSink(b, "eth0", expected{src: vtep, vnis: tab.vnis, every: 128})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("kernel without TCX: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	from, to := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	send := func(member int, change func(b []byte)) {
		t.Helper()
		tr := traffic{From: from, To: to, Src: vtep, Dst: tab.member(member), Inner: smallFrame, VNIs: tab.vnis}
		f := tr.frame()
		change(f)
		if err := a.Send("eth0", f); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(what string, cond func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := netlab.Wait(ctx, what, cond); err != nil {
			t.Fatal(err)
		}
	}
	same := func([]byte) {}
	send(0, same)
	send(1, func(b []byte) { b[49-1] = byte(firstVNI&0xff) + 1 }) // the other VNI
	send(2, func(b []byte) { b[35] += flows - 1 })                // the last port
	send(2, func(b []byte) { b[12], b[13] = 0x86, 0xdd })         // no IPv4: not ours
	wait("three copies", func() bool {
		n, err := s.total()
		return err == nil && n == 3
	})
	if err := s.check(); err != nil {
		t.Fatalf("got error %v, want none", err)
	}
	var got []netip.Addr
	if err := s.samples(func(b []byte) error {
		got = append(got, netip.AddrFrom4([4]byte(b[sampleDst:])))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0] != tab.member(0) {
		t.Errorf("got samples of %v, want the three copies of packet 0", got)
	}
	send(gaugeIndex, func(b []byte) { b[outerLen+offMark+markNumber+7] = 1 }) // no sample of another kind
	wait("a copy to the gauge", func() bool {
		n, err := s.total()
		return err == nil && n == 4
	})
	v := verifier{table: tab, inner: smallFrame, packets: map[uint64]*seen{}}
	if err := s.samples(v.take); err != nil || len(v.arrivals) != 1 || len(v.packets) != 0 {
		t.Errorf("got arrivals %v at the gauge of packets %v, %v; want one arrival", v.arrivals, v.packets, err)
	}
	for name, change := range map[string]func(b []byte){
		"source": func(b []byte) { b[29]++ },
		"port":   func(b []byte) { b[35] += flows },
		"VNI":    func(b []byte) { b[48] += 2 },
		"mark":   func(b []byte) { b[outerLen+offMark]++ },
	} {
		var n uint64
		if err := s.faults.Lookup(uint32(faultWrong), &n); err != nil {
			t.Fatal(err)
		}
		send(0, change)
		wait("a fault for another "+name, func() bool {
			var now uint64
			return s.faults.Lookup(uint32(faultWrong), &now) == nil && now == n+1
		})
	}
	if err := s.check(); err == nil {
		t.Error("got no error for wrong copies, want one")
	}
	if n, err := s.total(); err != nil || n != 4 {
		t.Errorf("got %d copies, %v; want 4", n, err)
	}
}
