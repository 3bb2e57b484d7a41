// SPDX-License-Identifier: Apache-2.0

// Package preflight looks at the settings of a machine, before a daemon serves
// on it, for what would hurt later: buffers and tables that are too small, a
// firewall that tracks or translates the daemon's packets, filters that drop
// them. Each finding names the sysctl or rule to set.
//
// It changes nothing, knows nothing of the daemon but the numbers that it is
// given, and looks at the network namespace of the calling thread. What is for
// the daemon to find out as it goes, such as routes and neighbours, is not
// looked at here.
package preflight

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// An Input is what the daemon is about to do.
type Input struct {
	// ReceiveBuffer is what each data socket asks of SO_RCVBUF, in bytes; 0 for
	// a daemon that receives no data.
	ReceiveBuffer int

	// Neighbours4 and Neighbours6 are how many machines the daemon sends to at
	// least, by address family, as if all of them were on its own links.
	Neighbours4, Neighbours6 int

	// Ports are UDP destination ports, of packets received and sent, that the
	// firewall must neither track nor translate. It is empty for a daemon that
	// floods nothing.
	Ports []uint16

	// Anycast is an address that other machines have too; invalid for none.
	Anycast netip.Addr

	// VRF is the VRF device whose interfaces are used; "" for those that
	// are in none.
	VRF string
}

// A Finding is the result of one check.
type Finding struct {
	Name        string // stable: rmem_max, gc_thresh3, conntrack, nat, rp_filter or ip_forward
	OK          bool   // nothing to do
	Unknown     bool   // could not look, and Text says what is missing; never with OK
	Value       string // what is set, as "net.core.rmem_max = 212992"
	Text        string // in a line without full stop, what follows from it
	Fix         string // command line that mends it; "" where OK or not known
	Explanation string // some sentences, for whoever asks for them
}

// State returns the finding's outcome in a word: ok, warn or unknown.
func (f Finding) State() string {
	switch {
	case f.OK:
		return "ok"
	case f.Unknown:
		return "unknown"
	}
	return "warn"
}

// Run makes all checks, always in the order that Finding names. It never fails:
// a check that lacks something is Unknown. It opens sockets for as long as it
// runs, and needs no privilege but CAP_NET_ADMIN to see a firewall's rules.
func Run(in Input) []Finding {
	p := proc("/proc")
	track, nat := p.firewall(in.Ports)
	return []Finding{
		p.receiveBuffer(in.ReceiveBuffer),
		p.neighbours(in.Neighbours4, in.Neighbours6),
		track,
		nat,
		p.reversePath(in.VRF),
		p.forwarding(in.Anycast, in.VRF),
	}
}

const (
	indent    = "         " // below the state
	textWidth = 80
)

// Print writes findings for people: what is set, what follows, how to mend it,
// and the explanation.
func Print(w io.Writer, fs []Finding) error {
	b := bufio.NewWriter(w)
	for i, f := range fs {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "%-8s %-11s %s\n", f.State(), f.Name, f.Value)
		paragraph(b, f.Text)
		if f.Fix != "" {
			// Not broken into lines, so that it can be copied.
			b.WriteString(indent + "fix: " + f.Fix + "\n")
		}
		paragraph(b, f.Explanation)
	}
	return b.Flush()
}

// paragraph writes text in lines of at most textWidth bytes, where its words
// let it.
func paragraph(b *bufio.Writer, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && len(line)+1+len(word) > textWidth {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	if line != indent {
		b.WriteString(line + "\n")
	}
}
