// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// What is refused changes nothing, is counted under its reason and gets no
// answer, also where it is wrong at its very end.
func TestRefused(t *testing.T) {
	good := record(7, vxfld.SyncEntry{Addr: vtep(1), Holdtime: 90})
	request := func(s vxfld.Sync) []byte {
		s.VNIs, s.Response = append(s.VNIs, good), vxfld.ResponseAll
		return sync3(t, s)
	}
	tests := []struct {
		name string
		from byte
		msg  []byte
		want peer.Verdict
	}{
		{"nothing", 20, vector(t, "bad_sync_empty_stream"), peer.VerdictEmpty},
		{"version", 20, vector(t, "bad_sync_version4"), peer.Malformed(vxfld.ErrVersion)},
		{"address", 20, vector(t, "bad_sync_ip_empty"), peer.Malformed(vxfld.ErrAddress)},
		{"half a header", 20, []byte{3}, peer.Malformed(vxfld.ErrShort)},
		{"REFRESH", 20, vector(t, "v3_refresh_vxrd_snd_mode"), peer.Malformed(vxfld.ErrType)},
		{"protobuf at the end", 20, append(request(vxfld.Sync{}), 0x80), peer.Malformed(vxfld.ErrProtobuf)},
		{"address at the end", 20, append(request(vxfld.Sync{}), 0x12, 0x06, 0x08, 0x07, 0x12, 0x02, 0x0a, 0x00), peer.Malformed(vxfld.ErrAddress)},
		{"vni at the end", 20, append(request(vxfld.Sync{}), 0x12, 0x05, 0x08, 0x80, 0x80, 0x80, 0x08), peer.Malformed(vxfld.ErrVNI)},
		{"no vni at the end", 20, append(request(vxfld.Sync{}), 0x12, 0x00), peer.Malformed(vxfld.ErrMissing)},
		{"digest", 20, request(vxfld.Sync{Node: vxfld.SyncNode, Digest: make([]byte, peer.DigestLen-1)}), peer.VerdictDigest},
		{"empty digest", 20, request(vxfld.Sync{Digest: []byte{}}), peer.VerdictDigest},
		{"too large", 20, append(request(vxfld.Sync{}), make([]byte, 1<<20)...), peer.VerdictLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			n.Limit(peer.Limits{Body: 1 << 20, Large: 1 << 10})
			seen := false
			n.o.Seen = func(netip.Addr) { seen = true }
			n.meet()
			stop := run(t, n.Group)
			if got := n.say(t, tt.from, tt.msg); len(got) > 0 {
				t.Errorf("got answer %x, want none", got)
			}
			n.verdict(t, tt.want, 1)
			stop()
			if got := n.entries(); len(got) > 0 {
				t.Errorf("got entries %+v, want none", got)
			}
			if seen {
				t.Error("got a service node for what was refused")
			}
		})
	}
}

// SYNC is taken from those who are allowed alone; who they are may change.
func TestStrangersAreRefused(t *testing.T) {
	n := serving(t, 10)
	seen := make(chan netip.Addr, 10)
	n.o.Seen = func(a netip.Addr) { seen <- a }
	n.o.Allowed = func(a netip.Addr) bool { return a == host(20) }
	n.meet()
	run(t, n.Group)
	msg := vector(t, "sync_request_and_data")
	for range 3 {
		if got := n.say(t, 21, msg); len(got) > 0 {
			t.Errorf("got answer %x, want none", got)
		}
	}
	n.verdict(t, peer.VerdictStranger, 3)
	if got := n.say(t, 20, msg); len(got) == 0 {
		t.Error("got no answer for who is allowed")
	}
	if got := <-seen; got != host(20) || len(seen) > 0 {
		t.Errorf("got %v and %d more seen, want %v once", got, len(seen), host(20))
	}
	n.o.Allowed = nil
	n.meet()
	if got := n.say(t, 20, msg); len(got) > 0 {
		t.Errorf("got answer %x where nobody is allowed, want none", got)
	}
	n.verdict(t, peer.VerdictStranger, 4)
}

// A silent sender, and one that sends a byte now and then, are given up; what
// they sent is not used.
func TestSlowSendersAreGivenUp(t *testing.T) {
	tests := []struct {
		name   string
		limits peer.Limits
		send   func(c net.Conn)
	}{
		{"silent", peer.Limits{Idle: 50 * time.Millisecond}, func(c net.Conn) {
			_, _ = c.Write(vector(t, "captured_sync_learned"))
		}},
		{"slow", peer.Limits{Whole: 50 * time.Millisecond, Rate: 1 << 30}, func(c net.Conn) {
			// An endless unknown field.
			_, err := c.Write([]byte{3, 3, 0xfa, 0x07, 0x80, 0x80, 0x80, 0x01})
			for err == nil {
				_, err = c.Write([]byte{0})
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			n.Limit(tt.limits)
			run(t, n.Group)
			tt.send(n.dial(t, 20))
			n.verdict(t, peer.VerdictSlow, 1)
			if got := n.entries(); len(got) > 0 {
				t.Errorf("got entries %+v, want none", got)
			}
		})
	}
}
