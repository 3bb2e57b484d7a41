// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
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
	k := &capture{ctlCall: c, vni: vni, snap: snap}
	switch file {
	case "":
	case "-":
		k.to = c.out
	default:
		f, err := openCaptureFile(file)
		if err != nil {
			return err
		}
		k.file, k.to = f, f
	}
	err := k.ask(ctx)
	if err != nil {
		return k.end(err)
	}
	err = c.stream(ctx, control.CommandCapture, control.CaptureArgs{VNI: vni, Count: count, Snap: snap}, k.piece)
	return k.end(err)
}

// A capture writes the packets of a VNI as lines of text or JSON, or as pcapng.
type capture struct {
	*ctlCall
	vni   uint32
	snap  int
	where string // which daemon on which machine receives

	started        bool
	taken, missing uint64
	unsaid         uint64       // of missing, of those that no line has told of
	said           time.Time    // when a line told of some
	file           *captureFile // nil where it is standard output, or none
	to             io.Writer    // where pcapng goes, nil for nowhere
	packets        *packetFile  // nil where there is none
	progress       *progress    // nil where there are lines of packets
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
				return err
			}
			if k.file != nil {
				k.file.keep()
			}
		}
		k.progress.set("%s", k.summary())
		return nil
	case k.format != formatText:
		return k.json(data)
	}
	return k.text(&e)
}

// start empties the file, since the daemon has not refused, and says that packets
// are captured.
func (k *capture) start(s *control.CaptureStart) (err error) {
	if k.file != nil {
		if err := k.file.begin(); err != nil {
			return err
		}
	}
	if k.to != nil {
		if k.packets, err = newPacketFile(k.to, k.where, fmt.Sprintf("VNI %d", k.vni), k.snap, time.Now()); err != nil {
			return err
		}
		if k.file != nil {
			k.file.keep()
		}
		k.progress = k.ctlCall.progress("no packet yet")
	}
	k.started = true
	fmt.Fprintf(k.stderr, "%s: packets in VNI %d, %d a second at most\n", k.program.name, k.vni, s.Rate)
	return nil
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

// lostTime is the time between two lines about packets that are not shown.
const lostTime = time.Second

// text prints a line for each packet.
func (k *capture) text(e *control.CaptureEvent) error {
	var b bytes.Buffer
	if e.Lost != nil {
		k.unsaid += *e.Lost
	}
	// Above the rate there are some between any two packets.
	if now := time.Now(); k.unsaid > 0 && now.Sub(k.said) >= lostTime {
		b.WriteString(k.terminal.paint(warning, amount(k.unsaid, "packet is", "packets are")+" not shown") + "\n")
		k.unsaid, k.said = 0, now
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
	if k.packets != nil && k.started {
		err = cmp.Or(err, k.packets.end(time.Now()))
	}
	if k.file != nil {
		err = cmp.Or(err, k.file.end(k.started, err == nil))
	}
	if k.started {
		fmt.Fprintf(k.stderr, "%s: %s\n", k.program.name, k.summary())
	}
	return err
}
