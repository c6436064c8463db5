// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * In the VM: prices a book of options with QuantLib, here (0) or in N clones. See compare.sh.
 *
 *   price prepare | price 0 | price N
 *
 * The options are American puts, Asian calls and barrier calls on a share. Each is priced by
 * simulation, with a seed of its own, so that its price does not depend on who computes it, or
 * when. They are discounted on a curve. The book, and the quotes of bills and bonds behind the
 * curve, are made up in the manner of QuantLib's own examples.
 *
 * The parent makes curve and book before it clones. A clone finds them in the memory it was born
 * with, prices every Nth option, beginning with its own number, and hands in an array of prices.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ql/cashflows/coupon.hpp>
#include <ql/instruments/asianoption.hpp>
#include <ql/instruments/barrieroption.hpp>
#include <ql/instruments/vanillaoption.hpp>
#include <ql/pricingengines/asian/mc_discr_arith_av_price.hpp>
#include <ql/pricingengines/barrier/mcbarrierengine.hpp>
#include <ql/pricingengines/vanilla/mcamericanengine.hpp>
#include <ql/processes/blackscholesprocess.hpp>
#include <ql/quotes/simplequote.hpp>
#include <ql/settings.hpp>
#include <ql/termstructures/volatility/equityfx/blackconstantvol.hpp>
#include <ql/termstructures/yield/bondhelpers.hpp>
#include <ql/termstructures/yield/flatforward.hpp>
#include <ql/termstructures/yield/piecewiseyieldcurve.hpp>
#include <ql/termstructures/yield/ratehelpers.hpp>
#include <ql/time/calendars/target.hpp>
#include <ql/time/calendars/unitedstates.hpp>
#include <ql/time/daycounters/actual365fixed.hpp>
#include <ql/time/daycounters/actualactual.hpp>

#include <sf.h>

namespace ql = QuantLib;
using ql::ext::shared_ptr;
using Process = shared_ptr<ql::BlackScholesMertonProcess>;

namespace {

const ql::Date today(18, ql::September, 2008);
const double spot = 36.0;

/* What an option turned out to be worth, and the error of that. A clone's answer is an array. */
struct Price {
	double value, error;
};

/* An option as it is written in the book. */
struct Entry {
	std::string kind;
	double strike, volatility;
	int months;
	ql::BigNatural seed;
};

/* ---- The market ---- */

struct Bill {
	double rate;
	int months;
};
const Bill bills[] = { { 0.0096, 3 }, { 0.0145, 6 }, { 0.0194, 12 } };

struct Bond {
	ql::Date issued, matures;
	double coupon, quote;
};
const Bond bonds[] = {
	{ { 15, ql::March, 2005 }, { 31, ql::August, 2010 }, 0.02375, 100.390625 },
	{ { 15, ql::June, 2005 }, { 31, ql::August, 2011 }, 0.04625, 106.21875 },
	{ { 30, ql::June, 2006 }, { 31, ql::August, 2013 }, 0.03125, 100.59375 },
	{ { 15, ql::November, 2002 }, { 15, ql::August, 2018 }, 0.04000, 101.6875 },
	{ { 15, ql::May, 1987 }, { 15, ql::May, 2038 }, 0.04500, 102.140625 },
};

ql::Handle<ql::Quote> quote(double value)
{
	return ql::Handle<ql::Quote>(ql::ext::make_shared<ql::SimpleQuote>(value));
}

/* The curve of interest on which all these have the price they had. */
shared_ptr<ql::YieldTermStructure> make_curve()
{
	const ql::UnitedStates calendar(ql::UnitedStates::GovernmentBond);
	std::vector<shared_ptr<ql::RateHelper>> helpers;

	for (const Bill &bill : bills)
		helpers.push_back(ql::ext::make_shared<ql::DepositRateHelper>(
			quote(bill.rate), bill.months * ql::Months, 3, ql::TARGET(),
			ql::ModifiedFollowing, true, ql::Actual365Fixed()));
	for (const Bond &bond : bonds) {
		const ql::Schedule schedule(bond.issued, bond.matures, ql::Period(ql::Semiannual),
					    calendar, ql::Unadjusted, ql::Unadjusted,
					    ql::DateGeneration::Backward, false);

		helpers.push_back(ql::ext::make_shared<ql::FixedRateBondHelper>(
			quote(bond.quote), 3, 100.0, schedule,
			std::vector<ql::Rate>(1, bond.coupon),
			ql::ActualActual(ql::ActualActual::Bond), ql::Unadjusted, 100.0,
			bond.issued));
	}
	return ql::ext::make_shared<ql::PiecewiseYieldCurve<ql::Discount, ql::LogLinear>>(
		today, helpers, ql::Actual365Fixed());
}

Process make_process(const shared_ptr<ql::YieldTermStructure> &curve, double volatility)
{
	const ql::Handle<ql::YieldTermStructure> dividends(
		ql::ext::make_shared<ql::FlatForward>(today, 0.01, ql::Actual365Fixed()));

	return ql::ext::make_shared<ql::BlackScholesMertonProcess>(
		quote(spot), dividends, ql::Handle<ql::YieldTermStructure>(curve),
		ql::Handle<ql::BlackVolTermStructure>(ql::ext::make_shared<ql::BlackConstantVol>(
			today, ql::TARGET(), volatility, ql::Actual365Fixed())));
}

/* ---- The options, each with the way it is priced ---- */

shared_ptr<ql::StrikedTypePayoff> payoff(ql::Option::Type type, const Entry &entry)
{
	return ql::ext::make_shared<ql::PlainVanillaPayoff>(type, entry.strike);
}

/* May be exercised on any day: worth what the best day brings (Longstaff and Schwartz). */
shared_ptr<ql::Instrument> american(const Entry &entry, const Process &process, ql::Date end)
{
	auto option = ql::ext::make_shared<ql::VanillaOption>(
		payoff(ql::Option::Put, entry),
		ql::ext::make_shared<ql::AmericanExercise>(today, end));

	option->setPricingEngine(ql::MakeMCAmericanEngine<ql::PseudoRandom>(process)
					 .withSteps(50)
					 .withAntitheticVariate()
					 .withSamples(1024)
					 .withCalibrationSamples(512)
					 .withSeed(entry.seed));
	return option;
}

/* On the mean of the price at the end of each month. */
shared_ptr<ql::Instrument> asian(const Entry &entry, const Process &process, ql::Date end)
{
	std::vector<ql::Date> fixings;

	for (int month = 1; month <= entry.months; month++)
		fixings.push_back(today + month * ql::Months);
	auto option = ql::ext::make_shared<ql::DiscreteAveragingAsianOption>(
		ql::Average::Arithmetic, 0.0, 0, fixings, payoff(ql::Option::Call, entry),
		ql::ext::make_shared<ql::EuropeanExercise>(end));

	option->setPricingEngine(ql::MakeMCDiscreteArithmeticAPEngine<ql::PseudoRandom>(process)
					 .withSamples(8192)
					 .withSeed(entry.seed));
	return option;
}

/* Worth nothing once the price has fallen to three quarters. */
shared_ptr<ql::Instrument> barrier(const Entry &entry, const Process &process, ql::Date end)
{
	auto option = ql::ext::make_shared<ql::BarrierOption>(
		ql::Barrier::DownOut, 0.75 * spot, 0.0, payoff(ql::Option::Call, entry),
		ql::ext::make_shared<ql::EuropeanExercise>(end));

	option->setPricingEngine(ql::MakeMCBarrierEngine<ql::PseudoRandom>(process)
					 .withStepsPerYear(100)
					 .withSamples(2048)
					 .withSeed(entry.seed));
	return option;
}

struct Kind {
	const char *name;
	shared_ptr<ql::Instrument> (*make)(const Entry &, const Process &, ql::Date);
};
const Kind kinds[] = { { "american put", american },
		       { "asian call", asian },
		       { "barrier call", barrier } };

/* ---- The book ---- */

struct Book {
	std::vector<Entry> entries;
	std::vector<shared_ptr<ql::Instrument>> options;
};

void add(Book &book, const Kind &kind, double strike, int months, double volatility,
	 const shared_ptr<ql::YieldTermStructure> &curve)
{
	const Entry entry = { kind.name, strike, volatility, months,
			      static_cast<ql::BigNatural>(1000 + book.entries.size()) };

	book.options.push_back(kind.make(entry, make_process(curve, volatility),
					 today + months * ql::Months));
	book.entries.push_back(entry);
}

Book make_book()
{
	const auto curve = make_curve();
	Book book;

	for (int months : { 6, 12 })
		for (double strike : { 32.0, 36.0, 40.0, 44.0 })
			for (double volatility : { 0.2, 0.3 })
				for (const Kind &kind : kinds)
					add(book, kind, strike, months, volatility, curve);
	return book;
}

/* Prices every `step`th option, beginning with number `first`. */
std::vector<Price> price(const Book &book, size_t first, size_t step)
{
	std::vector<Price> prices;

	for (size_t i = first; i < book.options.size(); i += step)
		prices.push_back({ book.options[i]->NPV(), book.options[i]->errorEstimate() });
	return prices;
}

/* ---- Clones ---- */

[[noreturn]] void work(const Book &book, unsigned id, unsigned clones)
{
	try {
		const auto prices = price(book, id - 1, clones);

		if (sf_set_result(prices.data(), prices.size() * sizeof(Price)) == 0)
			sf_exit(EXIT_SUCCESS);
		std::fprintf(stderr, "price: clone %u: %s\n", id, sf_error());
	} catch (const std::exception &error) {
		std::fprintf(stderr, "price: clone %u: %s\n", id, error.what());
	}
	sf_exit(EXIT_FAILURE);
}

/* Puts what clone `id` has found where it belongs among all prices. */
void take(std::vector<Price> &all, unsigned id, unsigned clones)
{
	size_t len = 0;
	const std::unique_ptr<void, void (*)(void *)> bytes(sf_result(id, &len), std::free);
	const size_t share = (all.size() - id + clones) / clones;

	if (!bytes)
		throw std::runtime_error(sf_error());
	if (len != share * sizeof(Price))
		throw std::runtime_error("a clone's answer is not as long as its share");
	for (size_t i = 0; i < share; i++)
		std::memcpy(&all[id - 1 + i * clones], static_cast<Price *>(bytes.get()) + i,
			    sizeof(Price));
}

std::vector<Price> price_in_clones(const Book &book, unsigned clones)
{
	std::vector<Price> all(book.options.size());
	const int id = sf_clone(clones);

	if (id > 0)
		work(book, static_cast<unsigned>(id), static_cast<unsigned>(sf_count()));
	if (id < 0 || sf_join() < 0)
		throw std::runtime_error(sf_error());
	clones = static_cast<unsigned>(sf_count());
	for (unsigned i = 1; i <= clones; i++)
		take(all, i, clones);
	return all;
}

/* ---- And out ---- */

/* All digits that the numbers have. */
void print(const Book &book, const std::vector<Price> &prices)
{
	std::puts("option\tstrike\tmonths\tvolatility\tprice\terror");
	for (size_t i = 0; i < prices.size(); i++) {
		const Entry &entry = book.entries[i];

		std::printf("%s\t%g\t%d\t%g\t%.17g\t%.17g\n", entry.kind.c_str(), entry.strike,
			    entry.months, entry.volatility, prices[i].value, prices[i].error);
	}
}

void run(const std::string &how)
{
	const unsigned long clones = how == "prepare" ? 0 : std::stoul(how);

	ql::Settings::instance().evaluationDate() = today;
	const Book book = make_book();

	if (clones > book.options.size())
		throw std::runtime_error("more clones than options");
	if (how == "prepare")
		std::fprintf(stderr, "a book of %zu options, each priced by simulation\n",
			     book.options.size());
	else
		print(book, clones ? price_in_clones(book, static_cast<unsigned>(clones)) :
				     price(book, 0, 1));
}

} // namespace

int main(int argc, char **argv)
{
	try {
		if (argc != 2)
			throw std::runtime_error("usage: price prepare|N");
		run(argv[1]);
	} catch (const std::exception &error) {
		std::fprintf(stderr, "price: %s\n", error.what());
		return EXIT_FAILURE;
	}
	return std::fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
