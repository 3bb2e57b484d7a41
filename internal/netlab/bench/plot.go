// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// A plot is a picture of curves over the number of members, with logarithmic
// axes, in panels side by side.
type plot struct {
	file   string
	panels []panel
}

// A panel is one diagram.
type panel struct {
	title, unit string
	curves      []curve
}

// A curve is what one contender does.
type curve struct {
	contender int // index in contenders
	points    []point
}

type point struct{ x, y float64 }

// colours and dashes tell contenders apart, also for those who see no colours
// (Okabe and Ito's set).
var (
	colours = []string{"#777777", "#0072b2", "#009e73", "#e69f00", "#d55e00"}
	dashes  = []string{"2 3", "6 3", "", "9 3 2 3", ""}
)

// Measures of a plot, in pixels.
const (
	panelWidth  = 400.0
	panelHeight = 300.0
	marginLeft  = 70.0
	marginTop   = 40.0
	marginRight = 20.0
	axisHeight  = 45.0
	legendLine  = 20.0
)

// plots returns the pictures of results.
func (rs results) plots() []plot {
	at := func(k kind, of func(figure) float64) (cs []curve) {
		s := selection{vnis: 1, kind: k}
		for i, c := range contenders {
			cv := curve{contender: i}
			for _, n := range rs.members(s) {
				if fs := rs[s.key(c.name, n)]; len(fs) > 0 {
					if y := of(summarize(fs)); y > 0 {
						cv.points = append(cv.points, point{float64(n), y})
					}
				}
			}
			if len(cv.points) > 0 {
				cs = append(cs, cv)
			}
		}
		return cs
	}
	return []plot{{file: "flooding.svg", panels: []panel{
		{"Copies per second that arrive", "copies/s", at(small, func(f figure) float64 { return f.rate })},
		{"CPU of the whole machine at half load", "CPU seconds per million copies", at(half, func(f figure) float64 { return f.cpu })},
	}}}
}

// svg draws a plot.
func (g plot) svg() []byte {
	var b bytes.Buffer
	pitch := marginLeft + panelWidth + marginRight
	legend := float64((len(contenders)+2)/3) * legendLine
	width, height := pitch*float64(len(g.panels)), marginTop+panelHeight+axisHeight+legend+10
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#ffffff"/>`+"\n", width, height)
	for i, p := range g.panels {
		p.draw(&b, float64(i)*pitch+marginLeft)
	}
	for i, c := range contenders {
		x := marginLeft + float64(i%3)*(width-marginLeft)/3
		y := marginTop + panelHeight + axisHeight + legendLine*float64(i/3) + 10
		fmt.Fprintf(&b, `<path d="M%.1f %.1fh36" %s/>`+"\n", x, y-4, stroke(i))
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x+18, y-4, colours[i])
		text(&b, x+44, y, "start", c.what)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func stroke(i int) string {
	s := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2"`, colours[i])
	if dashes[i] != "" {
		s += fmt.Sprintf(` stroke-dasharray="%s"`, dashes[i])
	}
	return s
}

func text(b *bytes.Buffer, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, s)
}

// An axis maps a range of values to a range of pixels, logarithmically.
type axis struct{ lo, hi, from, to float64 }

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.lo)/math.Log(a.hi/a.lo)
}

// ticks returns the round values 1, 2 and 5 times a power of ten on the axis.
func (a axis) ticks() (ts []float64) {
	for decade := math.Pow(10, math.Floor(math.Log10(a.lo))); decade <= a.hi; decade *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * decade; v >= a.lo*0.999 && v <= a.hi*1.001 {
				ts = append(ts, v)
			}
		}
	}
	return ts
}

// draw draws a panel whose left edge is at x.
func (p panel) draw(b *bytes.Buffer, x float64) {
	if len(p.curves) == 0 {
		return
	}
	h := axis{math.Inf(1), 0, x, x + panelWidth}
	v := axis{math.Inf(1), 0, marginTop + panelHeight, marginTop}
	var ns []float64
	for _, c := range p.curves {
		for _, q := range c.points {
			h.lo, h.hi = min(h.lo, q.x), max(h.hi, q.x)
			v.lo, v.hi = min(v.lo, q.y), max(v.hi, q.y)
			ns = append(ns, q.x)
		}
	}
	h.lo, h.hi, v.lo, v.hi = h.lo*0.8, h.hi*1.25, v.lo*0.8, v.hi*1.25
	fmt.Fprintf(b, `<text x="%.1f" y="20" text-anchor="middle" font-size="14">%s</text>`+"\n", x+panelWidth/2, p.title)
	for _, t := range v.ticks() {
		fmt.Fprintf(b, `<path d="M%.1f %.1fh%.0f" stroke="#dddddd"/>`+"\n", x, v.at(t), panelWidth)
		text(b, x-6, v.at(t)+4, "end", short(t))
	}
	drawn := map[float64]bool{}
	for _, n := range ns {
		if !drawn[n] {
			drawn[n] = true
			fmt.Fprintf(b, `<path d="M%.1f %.1fv%.0f" stroke="#dddddd"/>`+"\n", h.at(n), marginTop, panelHeight)
			text(b, h.at(n), marginTop+panelHeight+16, "middle", short(n))
		}
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.0f" height="%.0f" fill="none" stroke="#444444"/>`+"\n", x, marginTop, panelWidth, panelHeight)
	text(b, x+panelWidth/2, marginTop+panelHeight+34, "middle", "members of the VNI")
	fmt.Fprintf(b, `<text transform="translate(%.1f %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", x-52, marginTop+panelHeight/2, p.unit)
	for _, c := range p.curves {
		d := "M"
		for i, q := range c.points {
			if i > 0 {
				d += "L"
			}
			d += fmt.Sprintf("%.1f %.1f", h.at(q.x), v.at(q.y))
		}
		fmt.Fprintf(b, `<path d="%s" %s/>`+"\n", d, stroke(c.contender))
		for _, q := range c.points {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", h.at(q.x), v.at(q.y), colours[c.contender])
		}
	}
}

// short writes a number for an axis: 2000 stays, 2000000 is 2 M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
