// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/netlab"
)

func TestRoutesAreFollowed(t *testing.T) {
	r := idleDeviceRig(t, receiveBuffer)
	news := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- r.d.FollowRoutes(ctx, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	}()
	defer func() {
		cancel()
		check(t, <-done)
	}()
	to := addr("198.51.100.1")
	want := func(source string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			got, err := r.d.Source(to, "")
			if (err == nil) == (source != "") && (err != nil || got == addr(source)) {
				return
			}
			select {
			case <-news:
			case <-deadline:
				t.Fatalf("got no news, source %v, %v, want %q", got, err, source)
			}
		}
	}
	want("")
	route := netlab.Route{To: netip.MustParsePrefix("198.51.100.0/24"), Via: addr("192.0.2.2")}
	change := func(f func(netlab.Route) error, source string) {
		t.Helper()
		// What is there before the news is not what is looked for.
		check(t, f(route))
		select {
		case <-news:
		case <-time.After(20 * time.Second):
			t.Fatal("got no news")
		}
		want(source)
	}
	// Subscribed is whoever has had news.
	check(t, netlab.Wait(t.Context(), "the first news", func() bool {
		check(t, r.AddRoute(route))
		check(t, r.DeleteRoute(route))
		return len(news) > 0
	}))
	for range 3 {
		change(r.AddRoute, "192.0.2.1")
		change(r.DeleteRoute, "")
	}
	// More than there is room for.
	for i := range 1000 {
		check(t, r.AddRoute(netlab.Route{To: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32), Via: addr("192.0.2.2")}))
	}
	change(r.AddRoute, "192.0.2.1")
}
