//! Medians, and how sure they are.

/// The median; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Bounds that hold the true median with a probability of at least 95 %, whatever the distribution: the k-th smallest
/// and k-th largest value, with k from the binomial distribution (the sign test). With fewer than six values these are
/// the smallest and the largest.
pub(crate) fn median_interval(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let n = sorted.len();
    if n == 0 {
        return (0.0, 0.0);
    }
    // The largest k with P(fewer than k of n values lie below the median) of at most 2.5 %.
    let mut below = 0.5f64.powi(n as i32);
    let mut term = below;
    let mut k = 0;
    while below <= 0.025 && k + 1 < n {
        k += 1;
        term *= (n - k + 1) as f64 / k as f64;
        below += term;
    }
    let k = k.saturating_sub(1).min((n - 1) / 2);
    (sorted[k], sorted[n - 1 - k])
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn intervals_as_in_the_tables_of_the_sign_test() {
        let values = |n: i32| (1..=n).map(f64::from).collect::<Vec<_>>();
        // k = 1 (the extremes) up to n = 8, k = 2 for 9 to 11, k = 6 for 20, k = 10 for 30.
        assert_eq!(median_interval(&values(5)), (1.0, 5.0));
        assert_eq!(median_interval(&values(8)), (1.0, 8.0));
        assert_eq!(median_interval(&values(9)), (2.0, 8.0));
        assert_eq!(median_interval(&values(20)), (6.0, 15.0));
        assert_eq!(median_interval(&values(30)), (10.0, 21.0));
    }
}
