// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vxsnd/internal/control"
)

// printWhole returns a maker of printers of an answer in one piece, a T: text
// writes it for people.
func printWhole[T any](text func(*bytes.Buffer, *T)) func(io.Writer, format) printer {
	return func(w io.Writer, f format) printer { return &wholePrinter[T]{w: w, f: f, text: text} }
}

type wholePrinter[T any] struct {
	w     io.Writer
	f     format
	text  func(*bytes.Buffer, *T)
	shown bool
}

func (p *wholePrinter[T]) piece(data json.RawMessage) error {
	p.shown = true
	var b bytes.Buffer
	if p.f == formatText {
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return fmt.Errorf("the answer is not understood: %w", err)
		}
		p.text(&b, &v)
	} else {
		// As it came, so that what a later daemon says of itself is there too.
		if err := json.Indent(&b, data, "", "  "); err != nil {
			return fmt.Errorf("the answer is not understood: %w", err)
		}
		b.WriteByte('\n')
	}
	_, err := p.w.Write(b.Bytes())
	return err
}

func (p *wholePrinter[T]) end() error {
	if !p.shown {
		return errors.New("the answer is empty")
	}
	return nil
}

// keyWidth is how wide the keys of show are.
const keyWidth = 20

// showText writes a status for people: first what the Python suite's show has,
// in its shape, and then the rest.
func showText(b *bytes.Buffer, s *control.Status) {
	showAddresses(b, s)
	section := func(title string) { fmt.Fprintf(b, "\n%s\n", title) }
	pair := func(key, format string, a ...any) {
		fmt.Fprintf(b, "  %-*s%s\n", keyWidth, key+":", fmt.Sprintf(format, a...))
	}

	section("Daemon")
	pair("Version", "%s %s, process %d", s.Program, s.Version, s.PID)
	pair("Started", "%s, %s ago", s.Started.Local().Format(time.RFC3339), uptime(s.UptimeSeconds))
	ready := yesNo(s.Ready)
	if s.Waiting != "" {
		ready += ", waiting for " + s.Waiting
	} else if s.Asking {
		ready += ", without the table of a peer: they are asked on"
	}
	pair("Ready", "%s", ready)
	pair("Engine", "%s", s.Engine)
	pair("Control (UDP) port", "%d", s.VxfldPort)
	if s.VXLANListenPort != 0 {
		pair("Data (UDP) port", "%d, copies to %d", s.VXLANListenPort, s.VXLANDestPort)
	}
	pair("VRF", "%s", cmp.Or(s.VRF, "none"))
	pair("Configuration", "%s", cmp.Or(strings.Join(s.ConfigFiles, ", "), "none"))
	pair("Log lines lost", "%d", s.LogLinesLost)

	if a := s.Anycast; a != nil {
		section("Anycast address")
		pair("Address", "%s on %s", a.Address, a.Interface)
		pair("Installed", "%s, for %s", installed(a.Owner), uptime(a.SinceSeconds))
		pair("Healthy", "%s", yesNo(a.Healthy))
		pair("Draining", "%s", yesNo(a.Draining))
		if a.Problem != "" {
			pair("Problem", "%s", oneLine(a.Problem))
		}
	}

	section("Table")
	pair("VNIs", "%d", s.VNIs)
	pair("Members", "%d", s.Members)
	pair("Entries", "%d", s.Entries)
	pair("By source", "%s", counts(s.BySource))

	section("Data packets")
	pair("Received", "%d packets, %d bytes", s.Packets, s.Bytes)
	pair("Sent", "%d copies, %d bytes", s.Copies, s.CopyBytes)
	pair("Fragmented", "%d copies", s.Fragmented)
	pair("Learned", "%d members", s.Learned)
	pair("Loops", "%d", s.Loops)
	pair("Dropped", "%s", counts(s.Drops))

	section("Control messages")
	pair("Received", "%s", counts(s.Registrations))

	section("Peer connections")
	pair("Accepted", "%s", counts(s.PeerConnections.Accepted))
	pair("Refused", "%s", counts(s.PeerConnections.Refused))

	if len(s.Checks) == 0 {
		return
	}
	section("Start-up checks that failed")
	for _, c := range s.Checks {
		fmt.Fprintf(b, "  %s: %s\n", c.Name, c.Text)
		if c.Fix != "" {
			fmt.Fprintf(b, "    fix: %s\n", c.Fix)
		}
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
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
func showAddresses(b *bytes.Buffer, s *control.Status) {
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
	peers := slices.Sorted(slices.Values(s.Peers))
	for {
		n := min(2, len(peers))
		line(local, anycast, strings.Join(peers[:n], ", "))
		if peers = peers[n:]; len(peers) == 0 {
			return
		}
		local, anycast = "", ""
	}
}

// counts returns what is not 0, as name=count, in the order of the names.
func counts[N int | uint64](m map[string]N) string {
	var text []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != 0 {
			text = append(text, fmt.Sprintf("%s=%d", name, m[name]))
		}
	}
	return cmp.Or(strings.Join(text, " "), "none")
}

// uptime returns a time as 1d2h3m4s: time.Duration knows no days.
func uptime(seconds int64) string {
	const day = 24 * 60 * 60
	text := (time.Duration(seconds%day) * time.Second).String()
	if days := seconds / day; days > 0 {
		text = fmt.Sprintf("%dd%s", days, text)
	}
	return text
}
