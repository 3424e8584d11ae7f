//! The map as a picture: outside, in scope and out of scope are columns, each segment a box with its services, each connection
//! an arrow. What is in scope stands between the other two, so that no arrow passes behind a box that it does not touch.
//!
//! Must never take text of the bundle for markup. Tests: `tests/tests/scope.rs`.

use super::{colour, is_segment};
use cordon_policy::{Bundle, Carries, End, Flow, Scope, Segment};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A box: where it is, and what is written in it.
struct Box {
    x: usize,
    y: usize,
    height: usize,
    lines: Vec<String>,
}

/// Draws it.
pub(super) fn draw(bundle: &Bundle, flows: &[Flow]) -> String {
    let mut boxes: BTreeMap<End, Box> = BTreeMap::new();
    let mut heights = [TOP; 3];
    let mut place = |end: End, column: usize, lines: Vec<String>| {
        let height = lines.len().saturating_mul(LINE).saturating_add(PADDING);
        let Some(y) = heights.get_mut(column) else { return };
        let x = MARGIN.saturating_add(column.saturating_mul(COLUMN));
        boxes.insert(end, Box { x, y: *y, height, lines });
        *y = y.saturating_add(height).saturating_add(GAP);
    };
    place(End::Anywhere, 0, vec!["anywhere".to_owned()]);
    for segment in bundle.segments() {
        place(End::Segment(segment.name.clone()), column(segment.scope), lines(bundle, segment));
    }
    for flow in flows {
        match &flow.to {
            End::Destination(name) => place(flow.to.clone(), 0, vec![name.clone(), "destination".to_owned()]),
            End::Host(name) => place(flow.to.clone(), 2, vec![name.clone(), "host".to_owned()]),
            End::Anywhere | End::Segment(_) => {}
        }
    }
    let height = heights.into_iter().max().unwrap_or(TOP).saturating_add(LEGEND);
    let mut svg = String::new();
    head(&mut svg, height);
    for flow in flows {
        arrow(&mut svg, &boxes, flow);
    }
    for (end, one) in &boxes {
        draw_box(&mut svg, bundle, end, one);
    }
    legend(&mut svg, height.saturating_sub(LEGEND));
    svg.push_str("</svg>\n");
    svg
}

const fn column(scope: Scope) -> usize {
    match scope {
        Scope::External => 0,
        Scope::Cde | Scope::Connected => 1,
        Scope::Out => 2,
    }
}

fn lines(bundle: &Bundle, segment: &Segment) -> Vec<String> {
    let scope = format!("{} ({})", segment.name, segment.scope.as_str());
    let services = bundle.services().filter(|service| service.segment == segment.name);
    std::iter::once(scope).chain(services.map(|service| format!("  {}", service.name))).collect()
}

// Writing to a string cannot fail.
fn head(svg: &mut String, height: usize) {
    let width =
        MARGIN.saturating_mul(2).saturating_add(COLUMN.saturating_mul(3)).saturating_sub(COLUMN - WIDTH);
    let _infallible = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\" aria-label=\"Segments and connections\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
    );
    for carries in ALL {
        let (name, fill) = (carries.as_str(), colour(carries));
        let _infallible = writeln!(
            svg,
            "<marker id=\"{name}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"{fill}\"/></marker>"
        );
    }
}

fn draw_box(svg: &mut String, bundle: &Bundle, end: &End, one: &Box) {
    let Box { x, y, height, lines } = one;
    let inside =
        bundle.segments().any(|segment| segment.scope == Scope::Cde && is_segment(end, &segment.name));
    let stroke = if inside { colour(Carries::Cards) } else { "#3c4043" };
    let _infallible = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"#f8f9fa\" stroke=\"{stroke}\"/>"
    );
    for (number, line) in lines.iter().enumerate() {
        let (left, down) =
            (x.saturating_add(10), y.saturating_add(LINE.saturating_mul(number.saturating_add(1))));
        let _infallible =
            writeln!(svg, "<text x=\"{left}\" y=\"{down}\" xml:space=\"preserve\">{}</text>", escaped(line));
    }
}

fn arrow(svg: &mut String, boxes: &BTreeMap<End, Box>, flow: &Flow) {
    let (Some(from), Some(to)) = (boxes.get(&flow.from), boxes.get(&flow.to)) else { return };
    // A connection within a box is not drawn.
    if flow.from == flow.to {
        return;
    }
    // Arrows between the same two boxes lie apart.
    let apart = match flow.carries {
        Carries::Cards => 14,
        Carries::Tokens => 26,
        Carries::Administration => 38,
    };
    let right = to.x > from.x;
    let (start, end) = match (right, to.x == from.x) {
        (_, true) | (true, _) => (from.x.saturating_add(WIDTH), to.x),
        (false, false) => (from.x, to.x.saturating_add(WIDTH)),
    };
    let end = if to.x == from.x { start } else { end };
    let (from_y, to_y) = (from.y.saturating_add(apart), to.y.saturating_add(apart));
    let bend =
        if to.x == from.x { start.saturating_add(60) } else { start.saturating_add(end).div_euclid(2) };
    let port = flow.port.map(|port| format!(" :{port}")).unwrap_or_default();
    let _infallible = writeln!(
        svg,
        "<path d=\"M{start} {from_y}C{bend} {from_y} {bend} {to_y} {end} {to_y}\" fill=\"none\" stroke=\"{}\" \
         stroke-width=\"1.5\" marker-end=\"url(#{})\"><title>{}</title></path>",
        colour(flow.carries),
        flow.carries.as_str(),
        escaped(&format!("{} to {}{port}: {} ({})", flow.from, flow.to, flow.carries.as_str(), flow.need))
    );
}

fn legend(svg: &mut String, y: usize) {
    for (number, carries) in ALL.into_iter().enumerate() {
        let (x, down) = (MARGIN.saturating_add(number.saturating_mul(140)), y.saturating_add(20));
        let (line, text, middle) = (x.saturating_add(24), x.saturating_add(30), down.saturating_sub(4));
        let _infallible = writeln!(
            svg,
            "<path d=\"M{x} {middle}H{line}\" stroke=\"{}\" stroke-width=\"2\"/><text x=\"{text}\" y=\"{down}\">{}</text>",
            colour(carries),
            carries.as_str()
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const ALL: [Carries; 3] = [Carries::Cards, Carries::Tokens, Carries::Administration];
const MARGIN: usize = 20;
const TOP: usize = 20;
const WIDTH: usize = 190;
const COLUMN: usize = 290;
const LINE: usize = 17;
const PADDING: usize = 12;
const GAP: usize = 24;
const LEGEND: usize = 40;
