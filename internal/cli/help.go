// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"io"
	"strings"

	"vxsnd/internal/config"
)

const (
	helpColumn = 34 // where the texts of help begin
	helpWidth  = 80 // where its lines end

	hardBlank = "\x00" // a blank at which wrap breaks no line
)

// help writes what -h prints.
func help(w io.Writer) error {
	b := bufio.NewWriter(w)
	b.WriteString("Usage: vxsnd [FLAG]...\n\n" +
		"Floods the packets of VXLANs: a VTEP sends each broadcast, unknown unicast or\n" +
		"multicast packet to vxsnd, which sends a copy to every other VTEP of that VXLAN.\n\n")
	for _, m := range modes {
		names := []string{m.name}
		if m.name == "config" {
			names = append(names, configAlias)
		}
		helpFlag(b, m.short, names, m.arg, m.doc)
	}
	group := ""
	for _, o := range config.Options() {
		if o.Obsolete {
			continue
		}
		if o.Group != group {
			group = o.Group
			b.WriteString("\n" + group)
			if o.Programs&config.Vxsnd == 0 {
				b.WriteString(", accepted and not used by vxsnd")
			}
			b.WriteString(":\n")
		}
		mark := ""
		if o.Later {
			mark = " *"
		}
		helpFlag(b, o.Shorthand, shownNames(o), o.Arg, o.Doc+defaultText(o)+mark)
	}
	b.WriteString("\n* is taken and checked; all or a part of it has no effect in this version.\n\n" +
		"Each flag of these groups is a key of the configuration file, with underscores\n" +
		"for hyphens; the flag wins. LIST has blanks or commas between its values.\n" +
		"A switch is turned off by =false. See vxsnd(8) and vxsnd.conf(5) for more.\n\n" +
		"Exit status: 0 stopped, 1 failed at run time, 2 usage, 3 configuration,\n" +
		"4 could not bind or lacks privilege.\n")
	return b.Flush()
}

// shownNames leaves out older names, but not the one that comes first.
func shownNames(o config.Option) []string {
	names := o.FlagNames()
	if o.Flag != "" {
		return names[:2]
	}
	return names[:1]
}

func defaultText(o config.Option) string {
	switch def := o.DefaultFor(config.Vxsnd); {
	case o.DefaultNote != "":
		return " (default" + hardBlank + o.DefaultNote + ")"
	case def == "none":
		return ""
	default:
		return " (default" + hardBlank + def + ")"
	}
}

// helpFlag writes one flag, its text from helpColumn on.
func helpFlag(b *bufio.Writer, short string, long []string, arg, doc string) {
	line := "      "
	if short != "" {
		line = "  -" + short + ", "
	}
	line += "--" + strings.Join(long, ", --")
	if arg != "" {
		line += " " + arg
	}
	if len(line) > helpColumn-2 {
		b.WriteString(line + "\n")
		line = ""
	}
	for _, text := range wrap(doc, helpWidth-helpColumn) {
		b.WriteString(line + strings.Repeat(" ", helpColumn-len(line)) + text + "\n")
		line = ""
	}
}

// wrap breaks text at blanks into lines of at most width bytes, where its
// words let it.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += strings.ReplaceAll(word, hardBlank, " ")
	}
	return append(lines, line)
}
