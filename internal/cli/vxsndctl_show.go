// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vxsnd/internal/control"
)

// showDetail writes a status for people: first what the Python suite's show has,
// in its shape, and then a line for each figure.
func showDetail(b *screen, s *control.Status) {
	showAddresses(b, s)
	section, pair := sections(b)

	section("Daemon")
	showProcess(pair, &s.Process)
	pair("Ready", "%s", readiness(b, s))
	pair("Engine", "%s", engine(b, s))
	pair("Control (UDP) port", "%d", s.VxfldPort)
	if s.VXLANListenPort != 0 {
		pair("Data (UDP) port", "%d, copies to %d", s.VXLANListenPort, s.VXLANDestPort)
	}
	pair("VRF", "%s", cmp.Or(s.VRF, "none"))
	pair("Metrics", "%s", cmp.Or(s.MetricsListen, "not served"))
	showFiles(pair, &s.Process)

	if a := s.Anycast; a != nil {
		section("Anycast address")
		pair("Address", "%s on %s", a.Address, a.Interface)
		pair("Installed", "%s, for %s", installed(a.Owner), uptime(a.SinceSeconds))
		pair("Healthy", "%s", b.should(a.Healthy, yesNo(a.Healthy)))
		pair("Draining", "%s", yesNo(a.Draining))
		if a.Problem != "" {
			pair("Problem", "%s", b.paint(bad, oneLine(a.Problem)))
		}
	}

	section("Table")
	pair("VNIs", "%d", s.VNIs)
	pair("Members", "%d", s.Members)
	pair("Entries", "%d", s.Entries)
	pair("By source", "%s", sourceCounts(s.BySource))

	section("Data packets")
	pair("Received", "%d packets, %d bytes", s.Packets, s.Bytes)
	pair("Sent", "%d copies, %d bytes", s.Copies, s.CopyBytes)
	pair("Fragmented", "%d copies", s.Fragmented)
	pair("Learned", "%d members", s.Learned)
	pair("Loops", "%d", s.Loops)
	pair("Dropped", "%s", counts(s.Drops))
	pair("In queues", "%d bytes received, %d bytes to send", s.Queues.Receive, s.Queues.Send)

	if k := s.Kernel; k != nil {
		section("Engine in the kernel")
		pair("Devices", "%s", devices(s))
		pair("VNIs", "%s", kernelVNIs(k))
		pair("Flooded by raw", "%s", rawVNIs(k))
		pair("Pending", "%d", k.Pending)
		pair("Handled", "%d packets, %d copies", k.Packets, k.Copies)
		pair("Left to raw", "%s", counts(k.HandedUp))
		pair("Memory", "%d bytes held for members", k.Bytes)
		pair("Mended", "%s", b.should(k.Differences == 0, amount(k.Differences, "member", "members")))
	}

	section("Control messages")
	pair("Received", "%s", counts(s.Registrations))

	section("Peer connections")
	pair("Accepted", "%s", counts(s.PeerConnections.Accepted))
	pair("Refused", "%s", counts(s.PeerConnections.Refused))

	showChecks(b, s.Checks)
}

// readiness says whether the daemon is ready, and what it waits for.
func readiness(b *screen, s *control.Status) string {
	switch {
	case s.Waiting != "":
		return b.paint(warning, yesNo(s.Ready)) + ", waiting for " + s.Waiting
	case s.Asking:
		return b.paint(warning, yesNo(s.Ready)) + ", without the table of a peer: they are asked on"
	}
	return b.should(s.Ready, yesNo(s.Ready))
}

// engine says what floods where, or why the kernel does not.
func engine(b *screen, s *control.Status) string {
	switch {
	case s.EngineReason != "":
		return b.paint(warning, s.Engine) + ", not in the kernel: " + oneLine(s.EngineReason)
	case s.Engine == "none":
		return "none: the configuration has nothing flooded (no_flood, enable_vxlan_listen)"
	case s.Kernel != nil:
		return s.Engine + ", devices " + devices(s)
	}
	return s.Engine
}

// devices lists where the kernel takes packets.
func devices(s *control.Status) string {
	if len(s.Devices) == 0 {
		return "none, so raw floods everything"
	}
	return strings.Join(s.Devices, ", ") + " (" + s.Kernel.Hook + ")"
}

// inKernel says what is flooded where, in one line.
func inKernel(s *control.Status) string {
	if len(s.Devices) == 0 {
		return "nothing, since the program is on no device"
	}
	return fmt.Sprintf("%s, %d of %d packets; by raw %s", kernelVNIs(s.Kernel), s.Kernel.Packets, s.Packets, rawVNIs(s.Kernel))
}

// kernelVNIs says what is flooded in the kernel.
func kernelVNIs(k *control.Kernel) string {
	return amount(k.VNIs, "VNI", "VNIs") + " with " + amount(k.Members, "member", "members")
}

// rawVNIs says what is not, and why.
func rawVNIs(k *control.Kernel) string {
	n := 0
	for _, of := range k.RawVNIs {
		n += of
	}
	if n == 0 {
		return "no VNIs"
	}
	return amount(n, "VNI", "VNIs") + ": " + counts(k.RawVNIs)
}

// installed says who put the anycast address where it is.
func installed(owner string) string {
	switch owner {
	case "none":
		return "no"
	case "operator":
		return "by an operator"
	}
	return "by " + owner
}

// showAddresses writes the table of the Python suite's show: two peers a line,
// and 0.0.0.0 for any address.
func showAddresses(b *screen, s *control.Status) {
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return "0.0.0.0"
		}
		return a.String()
	}
	local, anycast := text(s.SrcIP), text(s.SvcnodeIP)
	localWidth, anycastWidth := max(len("Anycast address"), len(local)), max(len("Anycast address"), len(anycast))
	line := func(local, anycast, peers string) {
		row := fmt.Sprintf("%-*s%s%-*s%s%s", localWidth, local, columnGap, anycastWidth, anycast, columnGap, peers)
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	fmt.Fprintf(b, "Protocol version: %d\n", s.ProtocolVersion)
	line("Local address", "Anycast address", "Peer Addresses")
	line("=============", "===============", "==============")
	peers, perLine := slices.Sorted(slices.Values(s.Peers)), 2
	for i := range peers {
		if room := b.width - localWidth - anycastWidth - 2*len(columnGap); b.width > 0 && i%2 == 1 && len(peers[i-1]+", "+peers[i]) > room {
			perLine = 1
		}
	}
	for {
		n := min(perLine, len(peers))
		line(local, anycast, strings.Join(peers[:n], ", "))
		if peers = peers[n:]; len(peers) == 0 {
			return
		}
		local, anycast = "", ""
	}
}
