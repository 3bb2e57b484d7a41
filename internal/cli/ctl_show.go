// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vxsnd/internal/control"
)

// keyWidth is how wide the keys of show are.
const keyWidth = 20

// sections returns what writes a heading, and a line below it. A line that a
// terminal has no room for goes on below its value.
func sections(b *screen) (section func(title string), pair func(key, format string, a ...any)) {
	section = func(title string) { b.WriteString("\n" + b.paint(strong, title) + "\n") }
	pair = func(key, format string, a ...any) {
		lines := fold(fmt.Sprintf(format, a...), b.width-keyWidth-2)
		fmt.Fprintf(b, "  %-*s%s\n", keyWidth, key+":", strings.Join(lines, "\n"+strings.Repeat(" ", keyWidth+2)))
	}
	return section, pair
}

// showProcess writes which daemon answers.
func showProcess(pair func(key, format string, a ...any), p *control.Process) {
	pair("Version", "%s %s, process %d", p.Program, p.Version, p.PID)
	pair("Started", "%s, %s ago", p.Started.Local().Format(time.RFC3339), uptime(p.UptimeSeconds))
}

// showFiles writes what a daemon reads, and what it could not write.
func showFiles(pair func(key, format string, a ...any), p *control.Process) {
	pair("Configuration", "%s", cmp.Or(strings.Join(p.ConfigFiles, ", "), "none"))
	pair("Log lines lost", "%d", p.LogLinesLost)
}

// showChecks writes the start-up checks that failed, if any did.
func showChecks(b *screen, checks []control.Check) {
	if len(checks) == 0 {
		return
	}
	b.WriteString("\n" + b.paint(warning, "Start-up checks that failed") + "\n")
	for _, c := range checks {
		b.indented(2, c.Name+": "+c.Text)
		if c.Fix != "" {
			b.indented(4, "fix: "+c.Fix)
		}
	}
}

// indented writes text on lines that begin with n blanks, those after the first
// with two more.
func (b *screen) indented(n int, text string) {
	lines := []string{text}
	if columns(text) > b.width-n {
		lines = fold(text, b.width-n-2)
	}
	for i, line := range lines {
		b.WriteString(strings.Repeat(" ", n) + line + "\n")
		if i == 0 {
			n += 2
		}
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
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

// sourceCounts is counts of sources of entries, in the order that fdb has them in.
func sourceCounts(m map[string]int) string {
	var text []string
	for _, name := range sourceNames {
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

// amount is a number of things.
func amount[N int | uint64](n N, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}
