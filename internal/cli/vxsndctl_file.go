// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

const (
	// maxFileProblems is how many things that are wrong with a file are told one by
	// one.
	maxFileProblems = 20
	// maxMemberLine is the length of a line of a file of members, in bytes. What is
	// longer is another sort of file.
	maxMemberLine = 4096
	// uploadPart is how many entries are sent at once: they stay well below the bound
	// of a request.
	uploadPart = 500
)

// A memberFile is a file of members: a VNI and an address in each line.
type memberFile struct {
	name    string
	entries []control.FDBChange
	lines   []int // where each of entries stands
	doubles int   // lines that say what a line before says
	double  int   // the first of those
	first   int   // and the line that it repeats
}

// readMembers reads a file of members. The error tells all that is wrong with it.
func readMembers(name string, r io.Reader) (*memberFile, error) {
	f := &memberFile{name: name}
	at := make(map[control.FDBChange]int)
	var wrong config.Problems
	number, more := 0, 0
	problem := func(err error) {
		if len(wrong) == maxFileProblems {
			more++
			return
		}
		wrong = append(wrong, &config.Problem{File: name, Line: number, Text: err.Error()})
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMemberLine)
	for lines.Scan() {
		number++
		e, ok, err := parseMember(lines.Text())
		switch first := at[e]; {
		case err != nil:
			problem(err)
		case !ok:
		case first > 0:
			if f.doubles++; f.doubles == 1 {
				f.double, f.first = number, first
			}
		default:
			at[e] = number
			f.entries, f.lines = append(f.entries, e), append(f.lines, number)
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		number++
		problem(fmt.Errorf("more than %d bytes in a line: this is no file of members", maxMemberLine))
	case err != nil:
		return nil, readError(name, err)
	}
	if more > 0 {
		wrong = append(wrong, &config.Problem{File: name, Text: amount(more, "more line is", "more lines are") + " wrong"})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return f, nil
}

// readError is the error of a file that cannot be read.
func readError(name string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "use sudo"
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &exitError{exitFailed, fmt.Errorf("read %s: %w", name, err), hint}
}

// parseMember reads a line. It returns false for one that says nothing.
func parseMember(line string) (e control.FDBChange, ok bool, err error) {
	line, _, _ = strings.Cut(line, "#")
	words := strings.Fields(line)
	switch len(words) {
	case 0:
		return e, false, nil
	case 1:
		return e, false, fmt.Errorf("%.64q: the address is missing: a line is VNI ADDRESS", words[0])
	case 2:
	default:
		return e, false, fmt.Errorf("surplus text %.64q: a line is VNI ADDRESS", words[2])
	}
	for _, w := range words {
		if len(w) > 64 {
			return e, false, fmt.Errorf("%.32q… is too long: a line is VNI ADDRESS", w)
		}
	}
	vni, err := vxlan.ParseVNI(words[0])
	if err != nil {
		return e, false, err
	}
	address, err := parseAddress(words[1])
	if err == nil && !fdb.Usable(address) {
		err = fmt.Errorf("%s cannot be the address of a VTEP", address)
	}
	return control.FDBChange{VNI: uint32(vni), Address: address}, err == nil, err
}

// pieces returns what gives the entries in pieces of an upload, and then io.EOF.
// It calls sent with how many were given.
func (f *memberFile) pieces(sent func(int)) func() (any, error) {
	done := 0
	return func() (any, error) {
		sent(done)
		if done == len(f.entries) {
			return nil, io.EOF
		}
		part := f.entries[done:min(done+uploadPart, len(f.entries))]
		done += len(part)
		return part, nil
	}
}

// refused puts the line of the entry at fault before an error of the daemon's.
func (f *memberFile) refused(err error) error {
	var e *control.Error
	if !errors.As(err, &e) || e.Item == nil || *e.Item < 0 || *e.Item >= len(f.lines) {
		return err
	}
	return config.Problems{{File: f.name, Line: f.lines[*e.Item], Text: e.Text, Hint: e.Hint}}
}

// unchanged is the error of a change that is refused for what is wrong with a
// file. In JSON that is printed in the shape of a refused reload, too.
func (c *ctlCall) unchanged(err error) error {
	var wrong config.Problems
	if !errors.As(err, &wrong) {
		return err
	}
	if c.format != formatText {
		var report control.ReloadReport
		for _, p := range wrong {
			report.Errors = append(report.Errors, control.ReloadProblem{Text: p.Error(), Hint: p.Hint})
		}
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if _, err := c.out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return nothingChanged(wrong)
}

// nothingChanged is the error of a change that was refused as a whole.
func nothingChanged(wrong config.Problems) error {
	return &exitError{exitFailed, append(wrong, &config.Problem{Text: "nothing was changed"}), ""}
}

// operatorCommands change the entries that operators make.
var operatorCommands = []ctlCommand{
	{
		name: "fdb add", doc: "make a VTEP a member until it is removed or the daemon ends",
		operands: operatorEntry,
		run: func(ctx context.Context, c *ctlCall) error {
			return c.changeEntry(ctx, control.CommandFDBAdd, "added", "it was there already")
		},
	},
	{
		name: "fdb del", doc: "remove a member that fdb add or fdb file made",
		operands: operatorEntry,
		run: func(ctx context.Context, c *ctlCall) error {
			return c.changeEntry(ctx, control.CommandFDBDel, "removed", "there was no such entry of an operator's")
		},
	},
	{
		name: "fdb file", doc: "replace all that fdb add and fdb file made by those of a file",
		more: "A line of the file is VNI ADDRESS. What follows a # is a comment. Lines that are there twice count once. " +
			"All of it takes effect, or nothing. The file - is standard input.",
		operands: []operand{{name: "NAME", kind: fileOperand}},
		run:      replaceEntries,
	},
}

var operatorEntry = []operand{{name: "VNI", kind: vniOperand}, {name: "ADDRESS", kind: addressOperand}}

// changeEntry makes or removes one entry.
func (c *ctlCall) changeEntry(ctx context.Context, command, done, not string) error {
	e := control.FDBChange{VNI: *c.vni("VNI"), Address: c.address("ADDRESS")}
	return doChange(c, c.progress("waiting for the daemon"), func(each func(json.RawMessage) error) error {
		return c.ask(ctx, command, e, each)
	}, func(b *bytes.Buffer, r *control.FDBChanged) error {
		what := done
		if !r.Changed {
			what = "nothing changed: " + not
		}
		fmt.Fprintf(b, "VNI %d, %s: %s\n", e.VNI, e.Address, what)
		if r.Warning != "" {
			c.warn([]string{r.Warning})
		}
		return nil
	})
}

// replaceEntries replaces all entries by those of a file.
func replaceEntries(ctx context.Context, c *ctlCall) error {
	f, err := c.members(c.text("NAME"))
	if err != nil {
		return c.unchanged(err)
	}
	client, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err := c.verify(ctx); err != nil {
		return err
	}
	p := c.progress("waiting for the daemon")
	next := f.pieces(func(n int) {
		if p.set("sending members: %d of %d", n, len(f.entries)); n == len(f.entries) {
			p.set("waiting for the daemon to take %d members", n)
		}
	})
	return c.unchanged(doChange(c, p, func(each func(json.RawMessage) error) error {
		return f.refused(client.Upload(ctx, control.CommandFDBFile, nil, next, each))
	}, func(b *bytes.Buffer, r *control.FDBReplaced) error {
		fmt.Fprintf(b, "%d added, %d removed, %d kept\n", r.Added, r.Removed, r.Kept)
		c.warn(r.Warnings)
		if f.doubles > 0 {
			c.warn([]string{fmt.Sprintf("%s:%d: as line %d, and %s are there twice", f.name, f.double, f.first,
				amount(f.doubles, "line", "lines"))})
		}
		return nil
	}))
}

// shownBytes is how much of a file is read before it is told: more than anybody
// types.
const shownBytes = 1 << 20

// A readMeter tells how much is read that is written to it.
type readMeter struct {
	*ctlCall
	bytes int
	line  *progress
}

func (m *readMeter) Write(b []byte) (int, error) {
	m.bytes += len(b)
	switch {
	case m.bytes < shownBytes:
	case m.line == nil:
		m.line = m.progress("reading members")
	default:
		m.line.set("reading members: %d MiB", m.bytes>>20)
	}
	return len(b), nil
}

func (m *readMeter) stop() {
	if m.line != nil {
		m.line.stop()
	}
}

// members reads the file that the command line names.
func (c *ctlCall) members(name string) (*memberFile, error) {
	m := &readMeter{ctlCall: c}
	defer m.stop()
	if name == "-" {
		return readMembers("standard input", io.TeeReader(c.stdin, m))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, readError(name, err)
	}
	defer f.Close()
	return readMembers(name, io.TeeReader(f, m))
}
