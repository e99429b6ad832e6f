//! A line chart as SVG: points, axes from zero or by powers of ten, a title.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Room for the numbers of the axes, and for the title.
const MARGIN: f64 = 64.0;
/// Into how many parts an axis from zero is divided.
const PARTS: i32 = 5;

/// How numbers are laid out along an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    FromZero,
    Logarithmic,
}

pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) x_scale: Scale,
    pub(crate) points: &'a [(f64, f64)],
}

impl Chart<'_> {
    pub(crate) fn draw(&self) -> String {
        let most = |value: fn(&(f64, f64)) -> f64| self.points.iter().map(value).fold(0.0, f64::max);
        let (x_most, y_most) = (most(|p| p.0), round_up(most(|p| p.1)));
        let x_least = self.points.iter().map(|p| p.0).fold(x_most, f64::min);
        let along = |x: f64| match self.x_scale {
            Scale::FromZero => x / x_most,
            Scale::Logarithmic => (x / x_least).log10() / (x_most / x_least).log10(),
        };
        let right = |x: f64| MARGIN + along(x) * (WIDTH - 2.0 * MARGIN);
        let down = |y: f64| HEIGHT - MARGIN - y / y_most * (HEIGHT - 2.0 * MARGIN);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let (middle, bottom) = (WIDTH / 2.0, HEIGHT - MARGIN);
        text(&mut svg, (middle, 28.0), "middle", self.title);
        text(&mut svg, (middle, HEIGHT - 16.0), "middle", self.x);
        text(&mut svg, (12.0, MARGIN - 12.0), "start", self.y);
        for part in 0..=PARTS {
            let y = y_most * f64::from(part) / f64::from(PARTS);
            let (left, end, at) = (MARGIN, WIDTH - MARGIN, down(y));
            line(&mut svg, &[(left, at), (end, at)], "#ddd");
            text(&mut svg, (left - 6.0, at + 4.0), "end", &number(y));
        }
        for x in self.x_marks(x_least, x_most) {
            line(&mut svg, &[(right(x), bottom), (right(x), bottom + 5.0)], "#888");
            text(&mut svg, (right(x), bottom + 20.0), "middle", &number(x));
        }
        let points: Vec<_> = self.points.iter().map(|&(x, y)| (right(x), down(y))).collect();
        line(&mut svg, &points, "#2563eb");
        for (x, y) in points {
            put(&mut svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#2563eb\"/>\n"));
        }
        svg + "</svg>\n"
    }

    fn x_marks(&self, least: f64, most: f64) -> Vec<f64> {
        match self.x_scale {
            Scale::FromZero => (0..=PARTS).map(|part| most * f64::from(part) / f64::from(PARTS)).collect(),
            Scale::Logarithmic => {
                let tens = std::iter::successors(Some(least), |x| Some(x * 10.0));
                tens.take_while(|x| *x <= most).collect()
            }
        }
    }
}

/// The next number that is 1, 2 or 5 with zeros.
fn round_up(value: f64) -> f64 {
    let ten = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * ten).find(|step| *step >= value).unwrap_or(10.0 * ten)
}

fn number(value: f64) -> String {
    if value >= 1_000_000.0 {
        format!("{:.0} million", value / 1e6)
    } else if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"));
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str) {
    let mut path = String::new();
    for (x, y) in points {
        put(&mut path, format_args!("{x:.1},{y:.1} "));
    }
    let path = path.trim_end();
    put(svg, format_args!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>\n"));
}

fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string takes all");
}
