// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Source returns the address that packets to an address would come from: that
// of the route to it in a VRF, or in none where vrf is empty.
func (d *Devices) Source(to netip.Addr, vrf string) (netip.Addr, error) {
	rs, err := d.routes.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{VrfName: vrf})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("route to %s: %w", to, err)
	}
	for _, r := range rs {
		if a, ok := fromIP(r.Src); ok {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("route to %s: %w", to, errors.New("it has no source address"))
}

const (
	// routePause is the least time between two calls of who waits for routes.
	routePause = time.Second

	// routeBuffer is in bytes. What routing daemons change at once does not fit, and
	// need not: that something has changed is all there is to know.
	routeBuffer = 32 << 10
)

// FollowRoutes calls changed when IPv4 routes or rules have changed, so that
// Source may say something else: 50 ms after the first change, then at most once
// a second. It returns nil when ctx is done, and is called once.
func (d *Devices) FollowRoutes(ctx context.Context, changed func()) error {
	if err := d.routeFeed.subscribe(unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE); err != nil {
		return fmt.Errorf("follow routes: %w", err)
	}
	defer d.routeFeed.until(ctx)()
	sleep := func(long time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(long):
		}
	}
	for {
		_, err := d.routeFeed.next(ctx, time.Time{})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("follow routes: %w", err)
		}
		// What comes meanwhile is not read one by one: a routing daemon may change
		// hundreds of thousands.
		sleep(settle)
		if err := d.routeFeed.drain(func([]byte) {}); err != nil {
			return fmt.Errorf("follow routes: %w", err)
		}
		changed()
		sleep(routePause)
	}
}
