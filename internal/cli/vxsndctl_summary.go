// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"vxsnd/internal/control"
)

// runShow prints how the daemon does: what an operator looks at first, with detail
// each figure, and as JSON all that there is.
func runShow(ctx context.Context, c *ctlCall) error {
	if c.format != formatText || c.has("detail") {
		return askAndPrint(ctx, c)
	}
	p := c.progress("waiting for the daemon")
	defer p.stop()
	show, err := c.describe(ctx)
	if err != nil {
		return err
	}
	var s control.Status
	if err := json.Unmarshal(show, &s); err != nil {
		return notUnderstood(err)
	}
	var peers []control.Peer
	if len(s.Peers) > 0 {
		if err := c.ask(ctx, control.CommandPeers, nil, func(data json.RawMessage) error {
			if err := json.Unmarshal(data, &peers); err != nil {
				return notUnderstood(err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	b := c.newScreen()
	summaryText(b, &s, peers)
	p.stop()
	_, err = c.out.Write(b.Bytes())
	return err
}

// summaryText writes what the Python suite's show has, in its shape, and below it
// what is to be known first.
func summaryText(b *screen, s *control.Status, peers []control.Peer) {
	showAddresses(b, s)
	_, pair := sections(b)

	b.WriteByte('\n')
	pair("Daemon", "%s %s, up %s", s.Program, s.Version, uptime(s.UptimeSeconds))
	pair("Ready", "%s", readiness(b, s))
	pair("Engine", "%s", engine(b, s))
	if s.Kernel != nil && s.EngineReason == "" {
		pair("In the kernel", "%s", inKernel(s))
	}
	if a := s.Anycast; a != nil {
		pair("Anycast address", "%s", anycastText(b, a))
	}
	if len(peers) > 0 {
		pair("Peers", "%s", peerStates(b, peers))
	}
	pair("Table", "%s of %s in %s", amount(s.Entries, "entry", "entries"), amount(s.Members, "member", "members"), amount(s.VNIs, "VNI", "VNIs"))
	if s.Entries > 0 {
		pair("Entries by source", "%s", sourceCounts(s.BySource))
	}
	pair("Received", "%d packets, %d bytes", s.Packets, s.Bytes)
	pair("Sent", "%d copies, %d bytes", s.Copies, s.CopyBytes)
	pair("Dropped", "%s", counts(s.Drops))
	if s.Loops > 0 {
		pair("Loops", "%s", b.paint(bad, amount(s.Loops, "packet", "packets")+" of a sample came back"))
	}
	if s.LogLinesLost > 0 {
		pair("Log lines lost", "%s", b.paint(warning, fmt.Sprint(s.LogLinesLost)))
	}
	showChecks(b, s.Checks)
}

// anycastText says how the anycast address does, in one line.
func anycastText(b *screen, a *control.Anycast) string {
	text := fmt.Sprintf("%s on %s, ", a.Address, a.Interface)
	switch {
	case a.Draining:
		text += b.paint(warning, "withdrawn")
	case a.Owner == "none":
		text += b.paint(bad, "not installed")
	default:
		text += b.paint(good, "installed "+installed(a.Owner))
	}
	text += " for " + uptime(a.SinceSeconds)
	if !a.Healthy || a.Problem != "" {
		text += ": " + b.paint(bad, strings.TrimSuffix("not healthy, "+oneLine(a.Problem), ", "))
	}
	return text
}

// peerStates counts the peers by state, in the order in which states come up.
func peerStates(b *screen, peers []control.Peer) string {
	var states []string
	number := make(map[string]int)
	for i := range peers {
		state := shownState(&peers[i])
		if number[state] == 0 {
			states = append(states, state)
		}
		number[state]++
	}
	var text bytes.Buffer
	for i, state := range states {
		if i > 0 {
			text.WriteString(", ")
		}
		word := state
		if state == none {
			word = "not tried"
		}
		text.WriteString(b.paint(stateStyle(state), fmt.Sprintf("%d %s", number[state], word)))
	}
	return text.String()
}
