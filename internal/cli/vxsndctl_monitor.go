// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"vxsnd/internal/control"
)

// eventTime is how the time of an event is shown.
const eventTime = "15:04:05.000"

var monitorCommand = ctlCommand{
	name: "monitor", doc: "the changes of members as they happen, of all VXLANs or of one",
	more:     monitorHelp,
	operands: []operand{oneVNI},
	flags: func(fs *pflag.FlagSet) {
		fs.Bool("refreshed", false, "print registrations that are heard of again, too; data packets refresh members silently")
	},
	run: func(ctx context.Context, c *ctlCall) error {
		refreshed, err := c.flags.GetBool("refreshed")
		if err != nil {
			return err
		}
		args := control.MonitorArgs{VNI: c.vni(oneVNI.name), Refreshed: refreshed}
		return monitor(ctx, c, args, newEventTable(c, memberColumns, memberCells))
	},
}

// monitorHelp is the help on monitor of either daemon.
const monitorHelp = "It goes on until it is interrupted, or until the daemon stops. With --json each event is one line."

// monitor prints events, each a T, as they happen.
func monitor[T any](ctx context.Context, c *ctlCall, args any, t *eventTable[T]) error {
	if err := c.verify(ctx); err != nil {
		return err
	}
	return c.stream(ctx, control.CommandMonitor, args, func(data json.RawMessage) error {
		if c.format == formatText {
			return t.piece(data)
		}
		return c.printLines(data)
	})
}

// stream asks the daemon for what has no end, until a signal tells to stop, which
// is no error. What the terminal is too slow for stays with the daemon, which
// says what was lost.
func (c *ctlCall) stream(ctx context.Context, command string, args any, each func(json.RawMessage) error) error {
	ctx, release := untilSignal(ctx)
	defer release()
	client, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = c.whose(ctx, client.Stream(ctx, command, args, each))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// untilSignal returns a context that ends with a signal that ends programs. The
// second such signal kills.
func untilSignal(ctx context.Context) (_ context.Context, release func()) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	cancel := context.AfterFunc(ctx, stop)
	return ctx, func() {
		cancel()
		stop()
	}
}

// printLines prints each element of data as a line of JSON.
func (c *ctlCall) printLines(data json.RawMessage) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return notUnderstood(err)
	}
	var b []byte
	for _, e := range elements {
		b = append(append(b, e...), '\n')
	}
	_, err := c.out.Write(b)
	return err
}

// A column of events has a head and a width, which grows as it must while there is
// room for the others.
type column struct {
	head  string
	width int
}

// An eventTable prints events, each a T, as rows of a table that has no end. The
// second column is what happened, and has a style.
type eventTable[T any] struct {
	*ctlCall
	columns []column
	cells   func(*T) ([]string, style)
	started bool
}

func newEventTable[T any](c *ctlCall, columns []column, cells func(*T) ([]string, style)) *eventTable[T] {
	return &eventTable[T]{ctlCall: c, columns: slices.Clone(columns), cells: cells}
}

func (t *eventTable[T]) piece(data json.RawMessage) error {
	var events []T
	if err := json.Unmarshal(data, &events); err != nil {
		return notUnderstood(err)
	}
	var b bytes.Buffer
	if !t.started {
		t.started = true
		heads, lines := make([]string, len(t.columns)), make([]string, len(t.columns))
		for i, c := range t.columns {
			heads[i], lines[i] = c.head, strings.Repeat("=", len(c.head))
		}
		t.row(&b, heads, plain)
		t.row(&b, lines, plain)
	}
	for i := range events {
		cells, s := t.cells(&events[i])
		t.row(&b, cells, s)
	}
	_, err := t.out.Write(b.Bytes())
	return err
}

// lastWidth is what a terminal keeps for the last column.
const lastWidth = 12

// row writes cells in their columns. A cell that is too long for its column moves
// those behind it in its own row. What a terminal has no room for is cut off.
func (t *eventTable[T]) row(b *bytes.Buffer, cells []string, s style) {
	room := t.terminal.width - lastWidth
	for _, c := range t.columns {
		room -= c.width + len(narrowGap)
	}
	var text strings.Builder
	for i, cell := range cells[:len(cells)-1] {
		width := &t.columns[i].width
		if more := len(cell) - *width; more > 0 && (more <= room || t.terminal.width == 0) {
			*width += more
			room -= more
		}
		fmt.Fprintf(&text, "%-*s%s", *width, cell, narrowGap)
	}
	line := clip(strings.TrimRight(text.String()+cells[len(cells)-1], " "), t.terminal.width)
	if at := t.columns[0].width + 2; strings.HasPrefix(line[min(at, len(line)):], cells[1]) {
		line = line[:at] + t.terminal.paint(s, cells[1]) + line[at+len(cells[1]):]
	}
	b.WriteString(line + "\n")
}

// memberColumns are those of the changes of members.
var memberColumns = []column{{"Time", 12}, {"Event", 9}, {"VNI", 8}, {"Address", 15}, {"Source", 12}, {"Details", 0}}

// memberCells returns a change of a member in its columns.
func memberCells(e *control.MembershipEvent) ([]string, style) {
	at := e.Time.Local().Format(eventTime)
	if e.Event == control.EventLost {
		return []string{at, e.Event, lostText(e.Count)}, warning
	}
	var details []string
	if e.Reason != "" {
		details = append(details, oneLine(e.Reason))
	}
	if e.Event != control.EventRemoved {
		life := static
		if e.Seconds != nil {
			life = strconv.FormatInt(*e.Seconds, 10) + "s"
		}
		details = append(details, life)
	}
	if e.Identifier != 0 {
		details = append(details, fmt.Sprintf("node %d", e.Identifier))
	}
	s := map[string]style{control.EventAdded: good, control.EventRemoved: bad}[e.Event]
	return []string{at, e.Event, strconv.FormatUint(uint64(e.VNI), 10), e.Address.String(), e.Source, strings.Join(details, ", ")}, s
}

// lostText says how many events were not told.
func lostText(n int) string {
	if n <= 0 {
		return "events, which came faster than they were read"
	}
	return amount(n, "event", "events") + ", which came faster than they were read"
}
