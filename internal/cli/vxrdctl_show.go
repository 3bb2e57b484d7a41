// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"strconv"

	"vxsnd/internal/control"
)

// registrarText writes how a registration daemon does, for people.
func registrarText(b *screen, s *control.Registrar) {
	section, pair := sections(b)
	ago := func(seconds *int64) string {
		if seconds == nil {
			return "never"
		}
		return uptime(*seconds) + " ago"
	}

	section("Daemon")
	b.Next(1) // nothing is before it, so no empty line either
	showProcess(pair, &s.Process)
	pair("Ready", "%s", yesNo(s.Ready))
	pair("Replication", "%s", replication(s.HeadRep))
	pair("Node identifier", "%s", identifier(s.NodeID))
	pair("Control (UDP) port", "%d", s.VxfldPort)
	pair("Data (UDP) port", "%d", s.VXLANPort)
	pair("VRF", "%s", cmp.Or(s.VRF, "none"))
	showFiles(pair, &s.Process)

	section("Registration")
	pair("Service nodes", "%s", cmp.Or(addresses(s.SvcnodeIPs), "those of the devices"))
	source := "the local address of each device"
	if s.SrcIP.IsValid() {
		source = s.SrcIP.String()
	}
	pair("Sent from", "%s", source)
	pair("Devices", "%d", s.Devices)
	pair("Registered", "%s, %s", amount(s.Registered, "VNI", "VNIs"), ago(s.LastRegistration))
	pair("Skipped", "%s", amount(s.Skipped, "VNI", "VNIs"))
	pair("Sent", "%s, %s", amount(s.Sent, "message", "messages"), amount(s.SendErrors, "error", "errors"))

	if s.HeadRep {
		section("Answers")
		pair("Believed", "%s", s.AnswerFrom)
		pair("Last", "%s", ago(s.LastAnswer))
		pair("Stale", "%s", yesNo(s.Stale))
		pair("Received", "%s", counts(s.Answers))
		pair("Left out", "%s", amount(s.LeftOut, "address", "addresses"))
		pair("Flood entries", "%d", s.Programmed)
	}

	if len(s.Warnings) > 0 {
		section("Warnings")
		for _, w := range s.Warnings {
			b.indented(2, oneLine(w))
		}
	}
	showChecks(b, s.Checks)
}

// identifier returns that of a node in both notations: service nodes list it in
// decimal.
func identifier(hex string) string {
	n, err := strconv.ParseUint(hex, 0, 64)
	if err != nil {
		return cmp.Or(hex, "none yet")
	}
	return fmt.Sprintf("%s, %d", hex, n)
}

// replication says who makes the copies of flooded packets.
func replication(headEnd bool) string {
	if headEnd {
		return "head-end"
	}
	return "by the service nodes"
}
