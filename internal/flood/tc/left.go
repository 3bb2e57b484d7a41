// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// CleanUp removes filters that a vxsnd which was killed has left on devices of
// this network namespace, and returns the names of these. TCX leaves none.
func CleanUp() (devices []string, err error) {
	return cleanUp(func(int) bool { return true })
}

// cleanUp is CleanUp for some of the devices.
func cleanUp(which func(ifindex int) bool) (devices []string, err error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	err = nil
	for _, l := range links {
		a := l.Attrs()
		if !which(a.Index) {
			continue
		}
		removed, e := removeLeft(a.Index)
		if removed {
			devices = append(devices, a.Name)
		}
		err = errors.Join(err, e)
	}
	return devices, err
}
