// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestDatagramsTellTheirTimeAndDestination(t *testing.T) {
	tests := []struct{ bind, to string }{{"0.0.0.0", "127.0.0.9"}, {"::", "::1"}}
	for _, tt := range tests {
		t.Run(tt.bind, func(t *testing.T) {
			bind, to := netip.MustParseAddr(tt.bind), netip.MustParseAddr(tt.to)
			conn, addr := listenData(t, tt.bind, DataConfig{Timeout: time.Minute, Stamp: true})
			c, _ := dial(t, netip.AddrPortFrom(to, addr.Port()))
			in := NewInbox(1)
			for i, on := range []bool{true, false} {
				before := time.Now()
				write(t, c, []byte("datagram"))
				// What is queued at the change tells it as well.
				if err := conn.ShowDestination(bind, on); err != nil {
					t.Fatal(err)
				}
				if receive, _ := conn.Queued(); receive == 0 {
					t.Error("queued: got 0 bytes, want some")
				}
				n, err := in.Read(conn.ReadBatch)
				if n != 1 || err != nil {
					t.Fatal(n, err)
				}
				var d Datagram
				in.Datagram(0, &d)
				want := to
				if !on {
					want = netip.Addr{}
				}
				if d.Destination != want || d.TTL == 0 {
					t.Errorf("datagram %d: got %v, TTL %d, want %v", i, d.Destination, d.TTL, want)
				}
				// The clock may have been set meanwhile, but not by an hour.
				if off := time.Unix(0, d.Received).Sub(before).Abs(); off > time.Hour {
					t.Errorf("datagram %d: got time %v, want about %v", i, time.Unix(0, d.Received), before)
				}
			}
			if receive, send := conn.Queued(); receive != 0 || send != 0 {
				t.Errorf("queued at the end: got %d, %d bytes, want 0", receive, send)
			}
		})
	}
}

func TestDeliverIsUndoneByDatagram(t *testing.T) {
	in := NewInbox(1)
	for _, host := range []string{"10.0.0.1", "2001:db8::1"} {
		a := netip.MustParseAddr(host)
		for _, want := range []Datagram{
			{Payload: []byte("frame"), Source: netip.AddrPortFrom(a, 7), TTL: 3, TOS: 4, Received: 5e9 + 6, Destination: a.Next()},
			{Payload: []byte("frame"), Source: netip.AddrPortFrom(a, 7), TTL: 3, TOS: 4},
		} {
			_, err := in.Read(func(ms []Message) (int, error) {
				ms[0].Deliver(&want)
				return 1, nil
			})
			var got Datagram
			in.Datagram(0, &got)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	}
}
