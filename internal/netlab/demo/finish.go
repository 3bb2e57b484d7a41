// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// showFragments floods a full-size frame, which needs fragments.
func (l *lab) showFragments(ctx context.Context, _ options) error {
	const (
		mtu   = 1500
		outer = 20 + 8 + vxlan.HeaderLen // IPv4, UDP, VXLAN
	)
	from := l.vteps[0]
	others := without(l.steady(), from)
	before := make(map[*machine]int)
	for _, m := range append([]*machine{l.node}, l.vteps...) {
		n, err := m.fragments()
		if err != nil {
			return err
		}
		before[m] = n
	}
	k := broadcast(blue)
	k.size = mtu
	f, err := l.flood(ctx, from, blue, k, others...)
	if err != nil {
		return err
	}
	l.say("A VXLAN device that is made without 'dev' has MTU %d and adds %d bytes, so a full-size packet does not fit "+
		"an underlay of the same MTU. The VTEP's kernel sends it in fragments, and so are the copies:", mtu, outer+14)
	l.gap()
	l.row("A broadcast of vtep1: %d bytes, in an Ethernet frame of %d, in an underlay packet of %d",
		mtu, len(f.frame), len(f.frame)+outer)
	for _, m := range append([]*machine{l.node}, others...) {
		n, err := m.fragments()
		if err != nil {
			return err
		}
		// Each frame is followed by another of its size: see flood.
		const frames = 2
		if n -= before[m]; n != 2*frames {
			return fmt.Errorf("got %d fragments of two frames at %s, want %d", n, m.Name, 2*frames)
		}
		where, note := m.title(), ""
		if m == l.node {
			where = "the " + where
		} else {
			note = fmt.Sprintf(", and the frame came out of %s whole, byte for byte", m.devices[blue].name)
		}
		l.row("   at %-17s %d fragments%s", where, n/frames, note)
	}
	l.gap()
	l.ok("A full-size frame arrives as any other: once at every other VTEP.")
	return nil
}

// fragments returns how many fragments m has received so far.
func (m *machine) fragments() (int, error) {
	ps, err := m.wire.Packets(func(p *netlab.Packet) bool { return bytes.Equal(p.EtherDst, m.mac) && p.Fragment() })
	return len(ps), err
}

// showStop stops vxsnd, compares its counters with what the lab has seen, and
// shows that the VTEPs go on.
func (l *lab) showStop(ctx context.Context, _ options) error {
	if err := l.stop(ctx, l.vxsnd, false); err != nil {
		return err
	}
	counted := l.lastWords()

	at, err := l.node.received()
	if err != nil {
		return err
	}
	fragmented, copies := 0, 0
	for _, m := range l.vteps {
		ps, err := m.received()
		if err != nil {
			return err
		}
		for _, p := range ps {
			if !bytes.Equal(p.EtherSrc, l.node.mac) {
				continue
			}
			copies++
			if p.Frame == nil {
				fragmented++ // put together
			}
		}
	}
	l.gap()
	l.row("                                        vxsnd says   the lab has captured")
	for _, r := range []struct {
		what, counter string
		want          int
	}{
		{"VXLAN packets at the service node", "packets", len(at)},
		{"copies at the VTEPs", "copies", copies},
		{"  of which came in fragments", "fragmented", fragmented},
		{"members learned from what they sent", "learned", 1}, // vtep4, in VNI 200
	} {
		got, err := strconv.Atoi(counted[r.counter])
		if err != nil && counted[r.counter] != "" {
			return fmt.Errorf("vxsnd's counter %s is %q", r.counter, counted[r.counter])
		}
		l.row("%-40s %9d %22d", r.what, got, r.want)
		if got != r.want {
			return fmt.Errorf("vxsnd counted %d as %s, the lab %d", got, r.counter, r.want)
		}
		delete(counted, r.counter)
	}
	if len(counted) != 0 {
		return fmt.Errorf("vxsnd dropped something besides: %v", counted)
	}
	l.gap()
	l.ok("vxsnd stopped with status 0, and counted what there was.")
	for _, m := range l.steady() {
		if err := m.wantFloods(blue, addrs(without(l.steady(), m))...); err != nil {
			return err
		}
	}
	l.gap()
	l.say("Nobody answers vxrd now. It keeps the flood lists as they are until a service node speaks again:")
	return l.copyTable(ctx, l.steady())
}

// lastWords returns the figures of vxsnd's last line, reasons for drops among them.
func (l *lab) lastWords() map[string]string {
	out := make(map[string]string)
	for line := range strings.Lines(l.vxsnd.Output()) {
		_, words, ok := strings.Cut(line, "msg=stopped")
		if !ok {
			continue
		}
		for _, w := range strings.Fields(strings.NewReplacer(`drops=`, "", `"`, "").Replace(words)) {
			if k, v, ok := strings.Cut(w, "="); ok {
				out[k] = v
			}
		}
	}
	return out
}
