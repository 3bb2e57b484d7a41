// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"vxsnd/internal/control"
)

var captureCommand = ctlCommand{
	name: "capture", doc: "the packets that are received in a VXLAN, and what becomes of each",
	more: "It goes on until it is interrupted, or until the daemon stops. Of more packets a second " +
		"than capture_rate some are left out. With --json each packet is one line.",
	operands: []operand{{name: "VNI", kind: vniOperand}},
	flags: func(fs *pflag.FlagSet) {
		fileFlag(fs, "write", "w", "write pcapng to a `FILE`, - for standard output")
		numberFlag(fs, "count", "c", 0, 1, math.MaxInt32, "end after `N` packets")
		numberFlag(fs, "snaplen", "s", 0, 1, 0xffff, "take no more than `BYTES` of each VXLAN packet")
	},
	run: runCapture,
}

func runCapture(ctx context.Context, c *ctlCall) error {
	count, _ := flagValueOf[int](c, "count")
	snap, _ := flagValueOf[int](c, "snaplen")
	file, toFile := flagValueOf[string](c, "write")
	switch {
	case toFile && c.format != formatText:
		return usageError("take one of them", "-w writes pcapng, and -j and --json write JSON")
	case file == "-" && c.terminal.on:
		return usageError("write to a file, or to another program: -w - | tcpdump -n -r -", "-w -: standard output is a terminal")
	}
	vni := *c.vni("VNI")
	k := &capture{ctlCall: c, vni: vni, snap: snap, name: file}
	if err := k.ask(ctx); err != nil {
		return err
	}
	err := c.stream(ctx, control.CommandCapture, control.CaptureArgs{VNI: vni, Count: count, Snap: snap}, k.piece)
	return k.end(err)
}

// A capture writes the packets of a VNI as lines of text or JSON, or as pcapng.
type capture struct {
	*ctlCall
	vni   uint32
	snap  int
	name  string // of the file, "" for none
	where string // which daemon on which machine receives

	started        bool
	taken, missing uint64
	file           *os.File    // nil where it is standard output, or none
	packets        *packetFile // nil where there is none
	progress       *progress   // nil where there are lines of packets
}

// ask asks the daemon which it is.
func (k *capture) ask(ctx context.Context) error {
	var s control.Status
	show, err := k.describe(ctx)
	if err == nil {
		err = json.Unmarshal(show, &s)
	}
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	k.where = fmt.Sprintf("%s %s on %s", s.Program, s.Version, host)
	if s.SrcIP.IsValid() {
		k.where += ", " + s.SrcIP.String()
	}
	return nil
}

// piece takes what the daemon sends.
func (k *capture) piece(data json.RawMessage) error {
	var e control.CaptureEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return notUnderstood(err)
	}
	if e.Start != nil {
		if err := k.start(e.Start); err != nil {
			return err
		}
	}
	if !k.started {
		return notUnderstood(errors.New("a capture without its start"))
	}
	if e.Lost != nil {
		k.missing += *e.Lost
	}
	k.taken += uint64(len(e.Packets))
	switch {
	case k.packets != nil:
		k.packets.lost = k.missing
		for i := range e.Packets {
			if err := k.packets.add(&e.Packets[i]); err != nil {
				return fmt.Errorf("write %s: %w", k.name, err)
			}
		}
		k.progress.set("%s", k.summary())
		return nil
	case k.format != formatText:
		return k.json(data)
	}
	return k.text(&e)
}

// start opens the file, since the daemon has not refused, and says that packets
// are captured.
func (k *capture) start(s *control.CaptureStart) (err error) {
	k.started = true
	fmt.Fprintf(k.stderr, "%s: packets in VNI %d, %d a second at most\n", k.program.name, k.vni, s.Rate)
	out := k.out
	switch k.name {
	case "":
		return nil
	case "-":
	default:
		if k.file, err = createFile(k.name); err != nil {
			return err
		}
		out = k.file
	}
	if k.packets, err = newPacketFile(out, k.where, fmt.Sprintf("VNI %d", k.vni), k.snap, time.Now()); err != nil {
		return fmt.Errorf("write %s: %w", k.name, err)
	}
	k.progress = k.ctlCall.progress("no packet yet")
	return nil
}

// captureMode is for tenants' traffic.
const captureMode = 0o600

// createFile makes a file anew. What is no regular file is left alone: it would
// not be anew.
func createFile(name string) (*os.File, error) {
	refuse := func(err error) error {
		hint := ""
		if errors.Is(err, fs.ErrPermission) {
			hint = "use sudo, or write to another directory"
		}
		return &exitError{exitFailed, fmt.Errorf("-w: %w", err), hint}
	}
	// Nobody may read a pipe that is there.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|syscall.O_NONBLOCK, captureMode)
	if err != nil {
		return nil, refuse(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, &exitError{exitFailed, fmt.Errorf("-w: %s is not a regular file", name), "write to standard output instead: -w - > " + name}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		_ = f.Close()
		return nil, refuse(err)
	}
	return f, nil
}

// json prints each packet as it came, in a line of its own, and what else there is
// to know in others.
func (k *capture) json(data json.RawMessage) error {
	var e struct {
		Packets json.RawMessage `json:"packets"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return notUnderstood(err)
	}
	if e.Packets != nil {
		return k.printLines(e.Packets)
	}
	_, err := k.out.Write(append(bytes.Clone(data), '\n'))
	return err
}

// text prints a line for each packet.
func (k *capture) text(e *control.CaptureEvent) error {
	var b bytes.Buffer
	if e.Lost != nil {
		b.WriteString(k.terminal.paint(warning, amount(*e.Lost, "packet is", "packets are")+" not shown") + "\n")
	}
	for i := range e.Packets {
		p := &e.Packets[i]
		s := plain
		switch {
		case p.Drop != "":
			s = bad
		case isDropped(p):
			s = warning
		}
		b.WriteString(capturedLine(p) + ": " + k.terminal.paint(s, verdict(p)) + "\n")
	}
	_, err := k.out.Write(b.Bytes())
	return err
}

// summary says how many packets were captured.
func (k *capture) summary() string {
	text := amount(k.taken, "packet", "packets") + " captured"
	if k.missing > 0 {
		text += fmt.Sprintf(", %d not", k.missing)
	}
	return text
}

// end makes the file whole, and says what is in it. err is why the capture ended,
// nil where it was to.
func (k *capture) end(err error) error {
	if k.progress != nil {
		k.progress.stop()
	}
	if k.packets != nil {
		err = cmp.Or(err, k.packets.end(time.Now()))
	}
	if k.file != nil {
		err = cmp.Or(err, k.file.Close())
	}
	if k.started {
		fmt.Fprintf(k.stderr, "%s: %s\n", k.program.name, k.summary())
	}
	return err
}
