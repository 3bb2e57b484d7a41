// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"slices"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
)

const (
	// monitorCapacity is how many changes wait for one client at most, 1.4 MB; what
	// does not fit is lost.
	monitorCapacity = 1 << 14

	// monitorPause is the time for which changes gather after some were sent.
	monitorPause = 50 * time.Millisecond
)

// eventNames are the words for changes.
var eventNames = map[fdb.Kind]string{
	fdb.Added: control.EventAdded, fdb.Refreshed: control.EventRefreshed, fdb.Removed: control.EventRemoved,
}

// monitor sends changes of the table as they happen, until ctx is done.
func (n *Node) monitor(ctx context.Context, args *control.MonitorArgs, call *control.Call) error {
	kinds := fdb.KindAdded | fdb.KindRemoved
	if args.Refreshed {
		kinds |= fdb.KindRefreshed
	}
	var feed *fdb.Feed
	if args.VNI == nil {
		feed = n.table.Subscribe(monitorCapacity, kinds)
	} else {
		vni, err := checkVNI(*args.VNI)
		if err != nil {
			return err
		}
		feed = n.table.SubscribeVNI(monitorCapacity, kinds, vni)
	}
	defer feed.Close()
	if err := call.Send([]control.MembershipEvent{}); err != nil {
		return err
	}
	var changes []fdb.Change
	var told uint64 // of those that are missed
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.C():
		}
		// Whether the table is to be read again is not asked: other excluded addresses
		// are no event.
		changes, _ = feed.Take(changes[:0])
		missed := feed.Missed()
		wall, now := time.Now(), clock()
		for part := range slices.Chunk(changes, control.MaxPart) {
			es := make([]control.MembershipEvent, len(part))
			for i := range part {
				es[i] = event(&part[i], wall, now)
			}
			if err := call.Send(es); err != nil {
				return err
			}
		}
		if missed > told {
			if err := call.Send([]control.Lost{{Time: wall, Event: control.EventLost, Count: missed - told}}); err != nil {
				return err
			}
			told = missed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(monitorPause):
		}
	}
}

// event returns what is told of a change; now is wall on the clock of the table.
func event(c *fdb.Change, wall time.Time, now fdb.Time) control.MembershipEvent {
	e := control.MembershipEvent{
		Time: wall, Event: eventNames[c.Kind], Reason: c.Reason.String(),
		VNI: uint32(c.VNI), Address: c.Addr, Source: c.Source.String(), Identifier: c.Identifier,
	}
	if c.Kind != fdb.Removed {
		e.Seconds = secondsLeft(now, c.Expires)
	}
	return e
}
