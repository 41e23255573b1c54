//! How a cost grows, in one number.

/// The exponent of y ~ x^e through these points: the slope of logarithms, by least squares.
pub(crate) fn exponent(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let logs = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let (sum_x, sum_y) = logs().fold((0.0, 0.0), |(x, y), (lx, ly)| (x + lx, y + ly));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (over, under) = logs().fold((0.0, 0.0), |(over, under), (x, y)| {
        (over + (x - mean_x) * (y - mean_y), under + (x - mean_x).powi(2))
    });
    over / under
}
