// SPDX-License-Identifier: Apache-2.0

package vxfld_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// members returns a VNI with n members, whose octets take one byte or two.
func members(vni vxlan.VNI, n int) vxfld.VNIMembers {
	m := vxfld.VNIMembers{VNI: vni}
	for i := range n {
		m.Addrs = append(m.Addrs, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	return m
}

// Whatever is packed comes out in order, each VNI in one message, and no
// message is over the limit unless it holds one VNI alone.
func TestPacker(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, v := range []vxfld.Version{vxfld.V1, vxfld.V2, vxfld.V3} {
		for _, limit := range []int{0, 60, 1458, 8958, vxfld.MaxDatagram, 1 << 20} {
			head := vxfld.Refresh{Holdtime: 90}
			p, err := vxfld.NewPacker(v, head, limit)
			if err != nil {
				t.Fatal(err)
			}
			var want, got []vxfld.VNIMembers
			emit := func(msg []byte) error {
				m, err := vxfld.Parse(msg)
				if err != nil {
					t.Fatal(err)
				}
				r := m.Body.(*vxfld.Refresh)
				if len(msg) > vxfld.MaxDatagram || len(msg) > limit && len(r.VNIs) != 1 {
					t.Errorf("version %d, limit %d: got %d bytes with %d VNIs", v, limit, len(msg), len(r.VNIs))
				}
				got = append(got, r.VNIs...)
				r.VNIs = nil
				if diff := cmp.Diff(vxfld.Message{Version: v, Body: &head}, m); diff != "" {
					t.Errorf("head (-want +got):\n%s", diff)
				}
				return nil
			}
			for range 200 {
				m := members(vxlan.VNI(rnd.IntN(1<<24)), rnd.IntN(120)*rnd.IntN(2))
				want = append(want, m)
				if err := p.Add(m, emit); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Flush(emit); err != nil {
				t.Fatal(err)
			}
			if err := p.Flush(func([]byte) error { return errors.New("nothing is left") }); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, got, equateAddrs); diff != "" {
				t.Errorf("version %d, limit %d (-want +got):\n%s", v, limit, diff)
			}
		}
	}
}

func TestPackerLargeVNI(t *testing.T) {
	tests := []struct {
		name     string
		version  vxfld.Version
		n        int
		messages int
		err      error
	}{
		{"v1 above the limit", vxfld.V1, 1000, 3, nil},
		{"v1 the most that a datagram holds", vxfld.V1, 16373, 3, nil},
		{"v1 one more", vxfld.V1, 16374, 1, vxfld.ErrTooLarge},
		{"v1 more than its count holds", vxfld.V1, 65536, 1, vxfld.ErrRange},
		{"v3 above the limit", vxfld.V3, 1000, 3, nil},
		{"v3 too many", vxfld.V3, 6600, 1, vxfld.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := vxfld.NewPacker(tt.version, vxfld.Refresh{Holdtime: 1}, 1458)
			if err != nil {
				t.Fatal(err)
			}
			var sizes []int
			emit := func(msg []byte) error {
				sizes = append(sizes, len(msg))
				return nil
			}
			// Small ones before and after go in messages of their own.
			if err := p.Add(members(1, 1), emit); err != nil {
				t.Fatal(err)
			}
			if err := p.Add(members(2, tt.n), emit); !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if err := p.Add(members(3, 1), emit); err != nil {
				t.Fatal(err)
			}
			if err := p.Flush(emit); err != nil {
				t.Fatal(err)
			}
			if len(sizes) != tt.messages {
				t.Errorf("got messages of %d bytes, want %d messages", sizes, tt.messages)
			}
		})
	}
}

// A VNI that fills the largest datagram to the last byte is still sent: 10
// bytes of head, 6 of the record, 6,548 members of 10 bytes and one of 11.
func TestPackerFillsADatagram(t *testing.T) {
	m := vxfld.VNIMembers{VNI: 1, Addrs: []netip.Addr{addr("10.0.0.128")}}
	for i := range 6548 {
		m.Addrs = append(m.Addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 7), byte(i & 127)}))
	}
	p, err := vxfld.NewPacker(vxfld.V3, vxfld.Refresh{Holdtime: 1}, 1458)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if err := p.Add(m, func(msg []byte) error { size = len(msg); return nil }); err != nil {
		t.Fatal(err)
	}
	if size != vxfld.MaxDatagram {
		t.Errorf("got a message of %d bytes, want %d", size, vxfld.MaxDatagram)
	}
	m.Addrs[1] = addr("10.0.0.129")
	if err := p.Add(m, nil); !errors.Is(err, vxfld.ErrTooLarge) {
		t.Errorf("got %v for one byte more, want %v", err, vxfld.ErrTooLarge)
	}
}

// An error of emit stops Add, and the Packer goes on with the next message.
func TestPackerEmitError(t *testing.T) {
	p, err := vxfld.NewPacker(vxfld.V3, vxfld.Refresh{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := p.Add(members(1, 1), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	if p.Pending() != 0 {
		t.Errorf("got %d bytes pending, want none", p.Pending())
	}
	if m, err := vxfld.Parse(p.Head()); err != nil || len(m.Body.(*vxfld.Refresh).VNIs) != 0 {
		t.Errorf("got head %+v, %v, want a message without VNIs", m, err)
	}
	if _, err := vxfld.NewPacker(vxfld.V1, vxfld.Refresh{Identifier: 1}, 0); !errors.Is(err, vxfld.ErrRange) {
		t.Errorf("got %v, want %v", err, vxfld.ErrRange)
	}
}
