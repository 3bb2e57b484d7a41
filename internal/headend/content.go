// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"vxsnd/internal/vxlan"
)

// The journal is text. Its first line says what the rest is about; each line
// after it is one change:
//
//	vxrd-flood-entries 1 NAMESPACE BOOT
//	+ DEVICE INDEX VNI ADDRESS
//	+ DEVICE INDEX VNI ADDRESS external
//	- DEVICE INDEX VNI ADDRESS
//
// Device names have neither blanks nor newlines (dev_valid_name in
// net/core/dev.c), but may have any other byte.
const (
	magic    = "vxrd-flood-entries"
	format   = "1"
	external = "external"
)

// maxLine is the longest line that is read, in bytes, with room to spare.
const maxLine = 4096

// header returns the first line.
func header(o Options) string {
	return strings.Join([]string{magic, format, o.Namespace, o.BootID}, " ") + "\n"
}

// appendLine adds the line about one entry to b.
func appendLine(b []byte, op byte, k Key, a netip.Addr) []byte {
	b = append(b, op, ' ')
	b = append(b, k.Device...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(k.Index), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(k.VNI), 10)
	b = append(b, ' ')
	b = a.AppendTo(b)
	if k.External {
		b = append(b, " "+external...)
	}
	return append(b, '\n')
}

// appendLines adds a line for each of addrs to b.
func appendLines(b []byte, op byte, k Key, addrs []netip.Addr) []byte {
	for _, a := range addrs {
		b = appendLine(b, op, k, a)
	}
	return b
}

// parseLine reads a line of appendLine. It takes nothing else, so that what is
// left of a torn line is not taken for another.
func parseLine(line []byte) (op byte, k Key, a netip.Addr, ok bool) {
	// Not by Fields: what Unicode takes for a blank may be in a name.
	f := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
	if len(f) == 6 {
		k.External, f = f[5] == external, f[:5]
	}
	if len(f) != 5 || f[0] != "+" && f[0] != "-" {
		return 0, Key{}, netip.Addr{}, false
	}
	index, err := strconv.Atoi(f[2])
	vni, verr := vxlan.ParseVNI(f[3])
	a, aerr := netip.ParseAddr(f[4])
	if err != nil || verr != nil || aerr != nil {
		return 0, Key{}, netip.Addr{}, false
	}
	op, k.Device, k.Index, k.VNI = f[0][0], f[1], index, vni
	return op, k, a, bytes.Equal(appendLine(make([]byte, 0, len(line)), op, k, a), line)
}

// What a file turns out to be.
type kind int

const (
	fresh      kind = iota // holds nothing yet
	same                   // of this namespace, since the machine started
	otherBoot              // of a time before the machine started, or of another format
	otherSpace             // of another namespace
	strange                // something else than a journal
)

// A content is what a journal says.
type content struct {
	kind  kind
	lists map[Key]map[netip.Addr]struct{}
	size  int64 // of what is in whole lines; 0 unless of the same kind
	bad   int   // lines that say nothing
	zeros bool  // nothing but zero bytes, as some file systems leave where the machine stopped
	err   error // why it could not be read to its end
}

// read reads a journal, as far as it can be read.
func read(r io.Reader, o Options) content {
	c := content{lists: map[Key]map[netip.Addr]struct{}{}}
	br := bufio.NewReaderSize(r, maxLine)
	var length int64 // of the line so far
	for {
		part, err := br.ReadSlice('\n')
		if c.size == 0 && length == 0 {
			if c.kind = kindOf(part, o); c.kind == strange && part[0] == 0 {
				if c.zeros = zeros(part) && zerosFollow(br); c.zeros {
					c.kind = otherBoot
				}
			}
			if c.kind != same {
				c.err = notEnd(err)
				return c
			}
		}
		length += int64(len(part))
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if length > 0 {
				c.bad++ // torn
			}
			c.err = notEnd(err)
			return c
		}
		if c.size > 0 && (length > int64(len(part)) || !c.take(part)) {
			c.bad++
		}
		c.size, length = c.size+length, 0
	}
}

// zeros tells whether all bytes are zero.
func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// zerosFollow tells whether the rest is nothing but zero bytes.
func zerosFollow(r io.Reader) bool {
	b := make([]byte, maxLine)
	for {
		n, err := r.Read(b)
		if !zeros(b[:n]) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// notEnd returns err, unless it is about how long the content or a line is.
func notEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
		return nil
	}
	return err
}

// take takes in a line.
func (c *content) take(line []byte) bool {
	op, k, a, ok := parseLine(line)
	if !ok {
		return false
	}
	set := c.lists[k]
	switch {
	case op == '-':
		delete(set, a)
	case set == nil:
		c.lists[k] = map[netip.Addr]struct{}{a: {}}
	default:
		set[a] = struct{}{}
	}
	return true
}

// kindOf tells what a file is by its first line.
func kindOf(first []byte, o Options) kind {
	want := header(o)
	line, whole := bytes.CutSuffix(first, []byte("\n"))
	switch {
	case string(first) == want:
		return same
	case !whole && strings.HasPrefix(want, string(first)):
		return fresh
	}
	f := strings.Split(string(line), " ")
	switch {
	case f[0] != magic:
		return strange
	case len(f) == 4 && f[1] == format && f[3] == o.BootID:
		return otherSpace
	}
	return otherBoot
}
