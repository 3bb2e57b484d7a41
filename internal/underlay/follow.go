// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// groups are what the kernel tells of: devices and ports of bridges, VLANs of
// ports, VNI filters (Linux 5.18).
var groups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_BRVLAN, unix.RTNLGRP_TUNNEL}

// Run follows the kernel until ctx is done, then returns nil. It calls changed
// with all VXLAN devices, sorted by name, at the start and again 50 ms after
// the first of a burst of changes, if a device differs from what it told last.
// The slice belongs to changed.
func (d *Devices) Run(ctx context.Context, changed func([]Device)) error {
	if err := d.feed.subscribe(groups...); err != nil {
		return fmt.Errorf("follow devices: %w", err)
	}
	defer d.feed.until(ctx)()
	w := watcher{
		d: d, changed: changed, missed: true,
		links: make(map[int]link), vnis: make(map[int][]DeviceVNI), stale: make(map[int]struct{}),
	}
	w.settle()
	for {
		b, err := d.feed.next(ctx, w.due)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if w.take(b) {
				w.soon(settle)
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.settle()
		case errors.Is(err, unix.ENOBUFS):
			d.log.Debug("netlink overrun, reading everything again")
			w.missed = true
			w.soon(settle)
		default:
			return fmt.Errorf("follow devices: %w", err)
		}
	}
}

// A watcher is the state of Run.
type watcher struct {
	d       *Devices
	changed func([]Device)
	told    []Device // as changed was called last; nil before

	links map[int]link
	vnis  map[int][]DeviceVNI // of external devices
	stale map[int]struct{}    // external devices whose VNIs may have changed

	missed bool      // changes were lost, or devices overlooked: links is to be read anew
	due    time.Time // when to settle; zero if nothing has changed
}

// soon has changes told after so long, or earlier if that is planned already.
func (w *watcher) soon(after time.Duration) {
	if w.due.IsZero() {
		w.due = time.Now().Add(after)
	}
}

// take takes in what the kernel tells, and returns whether there is anything
// to tell of it.
func (w *watcher) take(b []byte) bool {
	news := false
	for m := range messages(b) {
		switch m.typ {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if len(m.body) < unix.SizeofIfInfomsg {
				continue
			}
			index := int(ne.Uint32(m.body[4:]))
			if m.body[0] == unix.AF_BRIDGE {
				news = w.doubt(index) || news
			} else if l, ok := parseLink(m.body); ok {
				news = w.link(l, m.typ == unix.RTM_DELLINK) || news
			}
		case unix.RTM_NEWTUNNEL, unix.RTM_DELTUNNEL, unix.RTM_NEWVLAN, unix.RTM_DELVLAN:
			if len(m.body) >= deviceMsg {
				news = w.doubt(int(ne.Uint32(m.body[4:]))) || news
			}
		}
	}
	return news
}

// link takes in a device as it is now, or that it has gone.
func (w *watcher) link(l link, gone bool) bool {
	before := w.links[l.index]
	if gone {
		delete(w.links, l.index)
		l = link{index: l.index}
	} else {
		w.links[l.index] = l
	}
	// The kernel tells of an external device that leaves its bridge, or whose
	// port loses its VLANs, but not of what becomes of its VNIs.
	news := w.doubt(l.index)
	if !l.vx.external {
		delete(w.vnis, l.index)
		delete(w.stale, l.index)
	}
	// Other devices matter for the VRF above them alone.
	return news || l != before && (l.isVXLAN || before.isVXLAN || l.vrf || before.vrf || l.master != before.master)
}

// doubt has the VNIs of a device read again, if it is external.
func (w *watcher) doubt(index int) bool {
	if !w.links[index].vx.external {
		return false
	}
	w.stale[index] = struct{}{}
	return true
}

// settle brings what is known up to date and tells it.
func (w *watcher) settle() {
	w.due = time.Time{}
	if w.missed && !w.reread() {
		w.soon(resubscribe)
		return
	}
	for i := range w.stale {
		vs, err := w.d.conn.vnis(w.links[i])
		if err != nil {
			w.d.log.WithError(err).Debug("VNIs not read, trying again")
			w.soon(resubscribe)
			continue
		}
		w.vnis[i] = vs
		delete(w.stale, i)
	}
	list := devices(w.links, w.vnis)
	if w.told == nil || !slices.EqualFunc(list, w.told, func(a, b Device) bool { return a.Equal(&b) }) {
		w.told = list
		w.changed(devices(w.links, w.vnis))
	}
}

// reread lists all devices anew. It returns false if it could not.
func (w *watcher) reread() bool {
	if err := w.d.feed.drain(func(b []byte) { w.take(b) }); err != nil {
		w.d.log.WithError(err).Debug("netlink not read, trying again")
		return false
	}
	links, err := w.d.conn.links(w.links)
	if err != nil && !interrupted(err) {
		w.d.log.WithError(err).Warn("cannot list devices, trying again")
		return false
	}
	w.links = links
	external := func(i int) bool { return w.links[i].vx.external }
	maps.DeleteFunc(w.vnis, func(i int, _ []DeviceVNI) bool { return !external(i) })
	maps.DeleteFunc(w.stale, func(i int, _ struct{}) bool { return !external(i) })
	for i := range links {
		w.doubt(i)
	}
	// Where devices come and go without a pause, what is known serves until
	// they do not.
	if w.missed = err != nil; w.missed {
		w.soon(resubscribe)
	}
	return true
}
