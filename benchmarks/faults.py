"""Forty plausible slips, each a piece of source text and what it is replaced by, and the tests that should notice it.

A text is looked for in all of `src/` and must occur there once, so that a fault survives its file's moves. Where the
code has been written in more than one way, every way has its text. Tests are pytest's arguments, files by their name
alone; selections are tried in order, the cheapest first.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """A slip.

    Attributes:
        name: what is wrong.
        texts: pairs of the text that is there and the one put in its place; the first that is found is used.
        tests: selections of tests.
    """

    name: str
    texts: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


FLOWS = (
    Fault(
        "affine map: log-determinant of the wrong sign",
        (("return s.exp() * x + b, s\n", "return s.exp() * x + b, -s\n"),),
        ("test_maps.py -k slope_is_the_derivative",),
    ),
    Fault(
        "spline: the scale counts once in the log-determinant",
        (("return 2 * s.log() + numerator.log()", "return s.log() + numerator.log()"),),
        ("test_maps.py -k slope_is_the_derivative",),
    ),
    Fault(
        "spline: the inverse takes the other branch of the root",
        (("left = torch.where(b < 0, root, 2 * s * below)", "left = torch.where(b > 0, root, 2 * s * below)"),),
        ("test_maps.py -k 'there_and_back or inverse'", "test_transforms.py"),
    ),
    Fault(
        "1×1 convolution: the log-determinant of one place",
        (("(places * self.log_diagonal.sum())", "(self.log_diagonal.sum())"),),
        ("test_transforms.py -k log_determinant", "test_coupling.py -k convolution"),
    ),
    Fault(
        "mixture CDF: the other tail's logarithm is added",
        ((".logsumexp(-1) - torch.where(left, log_g, log_f)", ".logsumexp(-1) + torch.where(left, log_g, log_f)"),),
        ("test_maps.py -k slope_is_the_derivative",),
    ),
    Fault(
        "continuous flow: the trace has the wrong sign",
        (("torch.cat([f, trace[:, None]], 1)", "torch.cat([f, -trace[:, None]], 1)"),),
        ("test_continuous.py -k 'linear_field or round_trip'",),
    ),
    Fault(
        "dequantisation: the number of levels is not counted",
        (
            ("return z, -log_q - sum_values(self.counts.to(u.dtype).log().expand(x.shape))", "return z, -log_q"),
            ("return z, -log_q - sum_values(log_counts.expand(x.shape))", "return z, -log_q"),
        ),
        ("test_flow.py -k 'lower_bound_in_units or symbols'", "test_dequantization.py"),
    ),
)

NETWORKS = (
    Fault(
        "MADE: an output sees its own place",
        (
            (
                "reach = _reach(degrees, torch.arange(dims).repeat_interleave(outputs))",
                "reach = _reach(degrees, torch.arange(1, dims + 1).repeat_interleave(outputs))",
            ),
        ),
        ("test_masked_network.py -k depends_on_those_before", "test_laws.py -k made"),
    ),
    Fault(
        "masked convolution: the first layer sees its own channels",
        (
            (
                'group_in < group_out if kind == "A" else group_in <= group_out',
                'group_in <= group_out if kind == "A" else group_in <= group_out',
            ),
        ),
        ("test_convolution.py -k sees_the_past", "test_laws.py -k pixelcnn"),
    ),
    Fault(
        "vertical stack: not moved down by a row",
        (
            (
                "shifted = [_zeros_before(y[:, :-1], 1, 1) for y in self.stack(x, context, None)]",
                "shifted = self.stack(x, context, None)",
            ),
            (
                "shifted = [zeros_before(y[:, :-1], 1, 1) for y in self.stack(x, features, None)]",
                "shifted = self.stack(x, features, None)",
            ),
        ),
        ("test_convolution.py -k rows_above", "test_laws.py -k pixelcnn"),
    ),
    Fault(
        "masked convolution, cached: the window moves down a row late",
        (
            ("if self.rows_above and row and place == 0:", "if self.rows_above and row > 1 and place == 0:"),
            (
                "if self.layer.rows_above and row and place == 0:",
                "if self.layer.rows_above and row > 1 and place == 0:",
            ),
        ),
        ("test_convolution.py -k cached_is_parallel",),
    ),
    Fault(
        "masked linear layer, cached: new inputs are taken for the first ones",
        (
            ("state.inputs[:, before:known] = x", "state.inputs[:, : known - before] = x"),
            ("self.columns.narrow(1, self.known - self.start, count)", "self.columns.narrow(1, 0, count)"),
        ),
        ("test_linear.py -k cached_is_parallel",),
    ),
    Fault(
        "recurrent network in order: every step starts from the first state",
        (
            (
                "state = self.recurrent(x.T[..., None], state)[1]",
                "state = self.recurrent(x.T[..., None], self._first(n, features))[1]",
            ),
            ("outputs, draw.state = self._after(x, draw.state)", "outputs, _ = self._after(x, draw.state)"),
        ),
        ("test_autoregressive.py -k inverse_in_one_pass", "test_autoregressive.py"),
    ),
    Fault(
        "logistics: the last symbol's bin ends",
        (("first, last = x == 0, x == self.levels - 1", "first, last = x == 0, x == self.levels"),),
        ("test_discrete.py -k 'laws_of_one or differences'", "test_logistics.py"),
    ),
    Fault(
        "sampling: the generator is ignored",
        (
            (
                "self.quantile(uniform(tuple(self.shape), generator, self._like()))",
                "self.quantile(uniform(tuple(self.shape), None, self._like()))",
            ),
        ),
        ("test_discrete.py -k follow_the_table", "test_laws.py -k 'made'"),
    ),
    Fault(
        "sampling: an ordering's examples are given the first contexts",
        (
            (
                "part = None if context is None else context[rows]\n        x[rows] = run(",
                "part = None if context is None else context[: len(rows)]\n        x[rows] = run(",
            ),
        ),
        (
            "test_jobs.py -k orderings",
            "test_compatibility.py -k 'samples_stay and made'",
            "test_frozen.py -k 'hundredth and made'",
        ),
    ),
    Fault(
        "event: a symbol equal to the number of levels is accepted",
        (
            ("if low >= 0 and high < self.levels:", "if low >= 0 and high <= self.levels:"),
            ("if low >= 0 and high < min(self._alphabets):", "if low >= 0 and high <= min(self._alphabets):"),
        ),
        ("test_event.py", "test_laws.py -k 'independent and 3x8'", "test_flow.py", "test_jobs.py"),
    ),
    Fault(
        "event: NaN is accepted",
        (("refuse(~torch.isfinite(x), x, name,", "refuse(torch.isinf(x), x, name,"),),
        ("test_event.py", "test_laws.py -k 'normal'", "test_flow.py"),
    ),
)

LATENT = (
    Fault(
        "bound: the prior's term has the wrong sign",
        (
            (
                "return self.reconstruction + self.log_prior - self.log_posterior",
                "return self.reconstruction - self.log_prior - self.log_posterior",
            ),
        ),
        ("test_bounds.py -k logarithm_of_a_mean", "test_bounds.py"),
    ),
    Fault(
        "training: the KL divergence is left out",
        (
            (
                "return (weight * counted - kl).sum() - evidence_lower_bound(terms.log_weight).mean()",
                "return (weight * counted - kl).sum() - terms.reconstruction.mean()",
            ),
        ),
        ("test_objectives.py -k 'beta_counts or loss_is_the_objective'", "test_hierarchical.py -k free"),
    ),
    Fault(
        "importance weighting: the number of draws is not divided by",
        (
            (
                "return log_weights.logsumexp(0) - math.log(len(log_weights))",
                "return log_weights.logsumexp(0)",
            ),
        ),
        ("test_bounds.py -k logarithm_of_a_mean", "test_gradients.py"),
    ),
    Fault(
        "warm-up: log_prob weighs the KL as training does",
        (
            (
                "bound = evidence_lower_bound(draw_terms(self, x, 1, generator).log_weight)",
                "terms = draw_terms(self, x, 1, generator)\n"
                '        bound = (terms.reconstruction - getattr(self, "weight", 1.0) * terms.kl)[0]',
            ),
        ),
        ("test_diagnostics.py -k changes_no_report", "test_objectives.py"),
    ),
    Fault(
        "score function: the baseline is added",
        (("(terms.log_weight - baseline) / len(", "(terms.log_weight + baseline) / len("),),
        ("test_gradients.py -k 'comparing or score_function'",),
    ),
    Fault(
        "vector quantisation: no gradient goes straight through",
        (("return vectors + (entries - vectors).detach()", "return entries"),),
        ("test_vq_vae.py -k gradient",),
    ),
    Fault(
        "expectation maximisation: responsibilities are not normalised",
        (
            (
                "components = maximize(x, (joint - evidence).exp(), components.covariance, floor)",
                "components = maximize(x, joint.exp(), components.covariance, floor)",
            ),
        ),
        ("test_gaussian_mixture.py -k never_falls", "test_gaussian_mixture.py"),
    ),
)

CODING = (
    Fault(
        "exactness: the bound is one unit too high",
        (("if self.bound >= ROOM:", "if self.bound > ROOM:"),),
        ("test_exact.py -k 'bound'",),
    ),
    Fault(
        "exactness: the grid of inputs is one bit too fine",
        (
            (
                "grid = BITS - 1 - _exponent(torch.tensor(HEADROOM * largest",
                "grid = BITS - _exponent(torch.tensor(HEADROOM * largest",
            ),
            (
                "grid = BITS - 1 - exponent_of(torch.tensor(HEADROOM * largest, dtype=torch.float64))",
                "grid = BITS - exponent_of(torch.tensor(HEADROOM * largest, dtype=torch.float64))",
            ),
        ),
        ("test_exact.py -k 'grid or any_size or calibration'", "test_golden.py", "test_frozen.py -k hundredth"),
    ),
    Fault(
        "rANS: a word is moved out one frequency too late",
        (
            (
                "frequency = np.uint64(frequencies[i])\n        while state >> room >= frequency:",
                "frequency = np.uint64(frequencies[i])\n        while state >> room > frequency:",
            ),
        ),
        ("test_rans.py -k 'compiled_equals or pop_undoes or invariant'",),
    ),
    Fault(
        "frequencies: cumulative units are rounded to the nearest",
        (
            (
                "((sums * per_weight) >> WIDE) + own",
                "((sums * per_weight + (1 << (WIDE - 1))) >> WIDE) + own",
            ),
        ),
        ("test_frequencies.py -k 'proportion or uniform_symbols'", "test_golden.py", "test_frequencies.py"),
    ),
    Fault(
        "container: a payload's checksum is not looked at",
        (
            (
                'if crc32(payload) != crc:\n            raise FormatError(f"chunk',
                'if not payload and crc:\n            raise FormatError(f"chunk',
            ),
        ),
        ("test_container.py -k 'messages or flips'", "test_container.py"),
    ),
    Fault(
        "container: the index is not looked at",
        (
            (
                "if tail != _tail(self.header, self._start, lengths):",
                "if len(tail) != len(_tail(self.header, self._start, lengths)):",
            ),
            (
                "if tail != tail_of(self.header, self._start, lengths):",
                "if len(tail) != len(tail_of(self.header, self._start, lengths)):",
            ),
        ),
        ("test_container.py -k 'index or flips or messages'", "test_container.py"),
    ),
)

FITS = (
    Fault(
        "report: bits are divided by the number of examples",
        (("bits = 1 / (dims * math.log(2))", "bits = 1 / (n * math.log(2))"),),
        ("test_jobs.py -k every_unit",),
    ),
    Fault(
        "report: the standard error falls with n, not with its root",
        (("float(values.std() / math.sqrt(len(values)))", "float(values.std() / len(values))"),),
        ("test_jobs.py -k every_unit", "test_jobs.py", "test_diagnostics.py -k reported"),
    ),
    Fault(
        "evaluation: data are not prepared as they were for the fit",
        (
            (
                "loaded.x if preparation is None else preparation.apply(loaded.x, generator)",
                "loaded.x if preparation is None else preparation._arrange(loaded.x)",
            ),
            (
                "return model, preparation, loaded, preparation.rows(loaded, generator)",
                "return model, preparation, loaded, loaded.prepared(preparation._arrange)",
            ),
        ),
        ("test_cli.py -k binarised", "test_cli.py -k main_job"),
    ),
    Fault(
        "checkpoint: the optimiser's state is not taken up",
        (
            ('self._restore_optimizer(parts["optimizer"])', "self._restore_optimizer({})"),
            ('_restore_optimizer(state, parts["optimizer"])', "_restore_optimizer(state, {})"),
        ),
        ("test_fit.py -k uninterrupted", "test_compatibility.py -k interrupted"),
    ),
    Fault(
        "resumption: the order of an epoch depends on more than seed and epoch",
        (
            ('generator=self.generator("order", epoch))', 'generator=self.generator("order", step))'),
            (
                'shuffled = rows.shuffled(self.chance.generator("order", epoch))',
                "shuffled = rows.shuffled(torch.default_generator)",
            ),
        ),
        ("test_fit.py -k 'crash or ctrl_c'", "test_compatibility.py -k interrupted"),
    ),
    Fault(
        "averaging: the average is the newest weights",
        (
            ("1 - min(self.decay, (1 + step) / (10 + step))", "1.0"),
            ("decay = min(self.decay, (1 + step) / (10 + step))", "decay = 0.0"),
        ),
        ("test_fit.py -k average",),
    ),
    Fault(
        "fit: the last weights are kept, not the best",
        (
            (
                "if self.validation_data is None or progress.bits_per_dim < progress.best:",
                "if self.validation_data is None or progress.bits_per_dim < 1e9:",
            ),
            (
                "better = validation is None or progress.bits_per_dim < progress.best",
                "better = validation is None or progress.bits_per_dim < 1e9",
            ),
        ),
        ("test_fit.py -k early_stopping",),
    ),
    Fault(
        "fit: a divergence is seen a hundred times too late",
        (
            ("loss > progress.lowest + 20 * (", "loss > progress.lowest + 2000 * ("),
            ("EXPLOSION = 20 ", "EXPLOSION = 2000 "),
        ),
        ("test_fit.py -k divergence", "test_fit.py"),
    ),
    Fault(
        "store: a file is written in place",
        (
            (
                "with tempfile.NamedTemporaryFile(dir=target.parent, "
                'prefix=f".{target.name}.", delete=False) as file:\n'
                "            temporary = Path(file.name)\n"
                "            write(file)\n"
                "            file.flush()\n"
                "            os.fsync(file.fileno())\n"
                "        temporary.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())\n"
                "        temporary.replace(target)\n",
                'with target.open("wb") as file:\n'
                "            write(file)\n"
                "            file.flush()\n"
                "            os.fsync(file.fileno())\n",
            ),
            (
                "with tempfile.NamedTemporaryFile(dir=target.parent, "
                'prefix=f".{target.name}.", delete=False) as file:\n'
                "            temporary = Path(file.name)\n"
                "            write(file)\n"
                "            file.flush()\n"
                "            os.fsync(file.fileno())\n"
                "        mode = target.stat().st_mode if target.exists() else 0o666 & ~umask()\n"
                "        temporary.chmod(mode)\n"
                "        temporary.replace(target)\n",
                'with target.open("wb") as file:\n'
                "            write(file)\n"
                "            file.flush()\n"
                "            os.fsync(file.fileno())\n",
            ),
        ),
        ("test_fit.py -k full_disk", "test_coding_commands.py -k 'old_file'"),
    ),
)

FAULTS = (*FLOWS, *NETWORKS, *LATENT, *CODING, *FITS)
