// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vxsnd/internal/control"
)

// showEngine shows what made the copies: the kernel, where it can.
func (l *lab) showEngine(ctx context.Context) error {
	l.gap()
	l.say("With engine = auto, the default, the kernel makes the copies where it can (engine tc): a program in the ingress hook of " +
		"the underlay's device does, and vxsnd is not even woken. What the program does not know goes up to vxsnd: a sender that " +
		"is to be learned, and a packet with a UDP checksum that no network card has verified. That is why the devices of this " +
		"lab, which has no cards, are made with noudpcsum.")
	l.gap()
	s, err := askOne[control.Status](ctx, l.vxsnd, control.CommandShow)
	if err != nil {
		return err
	}
	if err := l.typeCtl(ctx, l.vxsnd, "show"); err != nil {
		return err
	}
	if s.Engine != "tc" || s.Kernel == nil {
		l.ok("Here the kernel makes none (%s): vxsnd itself has made all %s.", s.EngineReason, count(int(s.Copies), "copy"))
		return nil
	}
	var left []string
	for _, why := range slices.Sorted(maps.Keys(s.Kernel.HandedUp)) {
		if of := s.Kernel.HandedUp[why]; of > 0 {
			left = append(left, fmt.Sprintf("%d for %s", of, why))
		}
	}
	note := ""
	if len(left) > 0 {
		note = ", and left to vxsnd " + strings.Join(left, ", ")
	}
	if s.Kernel.Packets == 0 {
		return fmt.Errorf("the engine is tc and the kernel has flooded none of %s%s", count(int(s.Packets), "packet"), note)
	}
	l.ok("The engine is tc on %s, since this kernel has all that it takes and vxsnd may use it. The kernel itself has flooded %d of %s "+
		"so far, in %d of %s%s.", list(s.Devices), s.Kernel.Packets, count(int(s.Packets), "packet"), s.Kernel.Copies,
		count(int(s.Copies), "copy"), note)
	return nil
}
