// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// filterName names the filter of the ingress hook where the kernel has no TCX, so
	// that one which a killed process left is found.
	filterName = "vxsnd_flood"

	// filterPriority is where the filter stands among others: behind those that
	// tc(8) gives a priority to, which is 49152 at most.
	filterPriority = 0xff00
)

// An attachment is the program in the ingress hook of one device.
type attachment struct {
	// how is "tcx" or "clsact".
	how string
	// detach takes the program away. It is no error if somebody did so before, or
	// the device is gone.
	detach func() error
	// present tells whether the program is still there.
	present func() (bool, error)
}

// attach puts the program into the ingress hook of a device, behind other
// programs there. TCX (Linux 6.6) ends with the process, whatever ends it; a
// filter does not, and one that was left is replaced.
func (k *kernel) attach(ifindex int) (attachment, error) {
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: k.objects.Flood, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail(),
	})
	switch {
	case err == nil:
		return attachment{"tcx", l.Close, func() (bool, error) { return hooked(l) }}, nil
	case !errors.Is(err, ebpf.ErrNotSupported):
		return attachment{}, fmt.Errorf("attach to device %d: %w", ifindex, err)
	}
	return k.attachFilter(ifindex)
}

// hooked tells whether a link of TCX is in its hook. One that was detached, or
// whose device is gone, names no device.
func hooked(l link.Link) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	at := info.TCX()
	return at != nil && at.Ifindex != 0, nil
}

// attachFilter is attach by a filter of the qdisc clsact, which is made where it
// is not there, and stays, since others may have come to use it. There is one
// such filter of a device, so one vxsnd may use it.
func (k *kernel) attachFilter(ifindex int) (attachment, error) {
	info, err := k.objects.Flood.Info()
	if err != nil {
		return attachment{}, fmt.Errorf("attach to device %d: %w", ifindex, err)
	}
	id, _ := info.ID()
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return attachment{}, fmt.Errorf("attach to device %d: add clsact: %w", ifindex, err)
	}
	// The kernel picks the handle, so no filter of others is replaced.
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: k.objects.Flood.FD(), Name: filterName, DirectAction: true,
	}
	if err := netlink.FilterAdd(f); err != nil {
		return attachment{}, fmt.Errorf("attach to device %d: %w", ifindex, err)
	}
	mine := func(f *netlink.BpfFilter) bool { return f.Id == int(id) }
	a := attachment{
		how: "clsact",
		detach: func() error {
			_, err := removeFilters(ifindex, mine)
			return err
		},
		present: func() (bool, error) {
			fs, err := filters(ifindex, mine)
			return len(fs) > 0, err
		},
	}
	// After, so that packets find the one or the other.
	if _, err := removeFilters(ifindex, func(f *netlink.BpfFilter) bool { return !mine(f) }); err != nil {
		return attachment{}, errors.Join(err, a.detach())
	}
	return a, nil
}

// removeLeft removes a filter that a killed process left on a device.
func removeLeft(ifindex int) (removed bool, err error) {
	return removeFilters(ifindex, func(*netlink.BpfFilter) bool { return true })
}

// removeFilters removes filters that a vxsnd added to a device.
func removeFilters(ifindex int, which func(*netlink.BpfFilter) bool) (removed bool, err error) {
	fs, err := filters(ifindex, which)
	for _, f := range fs {
		if e := netlink.FilterDel(f); e != nil && !gone(e) {
			err = errors.Join(err, fmt.Errorf("remove the filter of device %d: %w", ifindex, e))
		} else {
			removed = true
		}
	}
	return removed, err
}

// filters returns filters that a vxsnd added to a device. One that is gone has none.
func filters(ifindex int, which func(*netlink.BpfFilter) bool) (found []*netlink.BpfFilter, err error) {
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	all, err := netlink.FilterList(dev, netlink.HANDLE_MIN_INGRESS)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("list the filters of device %d: %w", ifindex, err)
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == filterName && which(b) {
			found = append(found, b)
		}
	}
	return found, nil
}

// gone tells whether an error of netlink means that a filter, its qdisc or its
// device is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
