//! The pictures of every report: an SVG document, written shape by shape.

use std::fmt::{Arguments, Display, Write};

/// A document on a white ground.
#[derive(Debug)]
pub struct Svg(String);

impl Svg {
    #[must_use]
    pub fn new(width: impl Display, height: impl Display, font_size: u32) -> Self {
        let mut svg = Self(String::new());
        svg.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"{font_size}\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
        ));
        svg
    }

    /// `attributes` are written as they are, as in `fill="white"`.
    pub fn rect<N: Display>(&mut self, [x, y, width, height]: [N; 4], attributes: &str) {
        self.line(format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {attributes}/>"));
    }

    pub fn text<N: Display>(&mut self, [x, y]: [N; 2], attributes: &str, text: impl Display) {
        self.line(format_args!("<text x=\"{x}\" y=\"{y}\" {attributes}>{text}</text>"));
    }

    pub fn path(&mut self, path: impl Display, attributes: &str) {
        self.line(format_args!("<path d=\"{path}\" {attributes}/>"));
    }

    pub fn polyline<N: Display>(&mut self, points: impl Iterator<Item = [N; 2]>, attributes: &str) {
        let points: Vec<String> = points.map(|[x, y]| format!("{x},{y}")).collect();
        self.line(format_args!("<polyline points=\"{}\" fill=\"none\" {attributes}/>", points.join(" ")));
    }

    #[must_use]
    pub fn finish(mut self) -> String {
        self.line(format_args!("</svg>"));
        self.0
    }

    fn line(&mut self, arguments: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(self.0, "{arguments}");
    }
}
